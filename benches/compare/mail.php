<?php
// Sends mails of 4 KB by PHPMailer, as a PHP application does: each over a connection of its own. Prints the milliseconds of each, from
// connect to QUIT, as JSON. Arguments: the folder of PHPMailer's source, the port, how many, and a user and password if there is one.
foreach (['Exception', 'SMTP', 'PHPMailer'] as $class) {
    require $argv[1] . "/$class.php";
}
$times = [];
for ($n = 0; $n < (int) $argv[3]; $n++) {
    $mail = new PHPMailer\PHPMailer\PHPMailer(true);
    $mail->isSMTP();
    $mail->Host = '127.0.0.1';
    $mail->Port = (int) $argv[2];
    $mail->SMTPAutoTLS = false;
    if (isset($argv[4])) {
        $mail->SMTPAuth = true;
        [$mail->Username, $mail->Password] = explode(':', $argv[4], 2);
    }
    $mail->setFrom('lms@contoso.com');
    $mail->addAddress('student@example.com');
    $mail->Subject = 'Forum: a new post';
    $mail->Body = str_repeat(str_repeat('x', 74) . "\r\n", 51);
    $mail->preSend();
    $begun = hrtime(true);
    $mail->postSend();
    $times[] = (hrtime(true) - $begun) / 1e6;
}
echo json_encode($times), "\n";
