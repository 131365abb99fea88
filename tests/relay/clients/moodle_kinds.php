<?php
// The kinds of mail that Moodle sends, with the fields and the form of each: PHPMailer, text and HTML, quoted-printable. What comes from web requests
// has a connection of its own, what comes from cron shares one. Argument: port.
require '/usr/share/php/libphp-phpmailer/autoload.php';

use PHPMailer\PHPMailer\PHPMailer;

[, $port] = $argv;

function mailer(bool $keep): PHPMailer {
    global $port;
    $mail = new PHPMailer(true);
    $mail->isSMTP();
    $mail->Host = '127.0.0.1:' . $port;
    $mail->SMTPAutoTLS = false;
    $mail->SMTPKeepAlive = $keep;
    $mail->CharSet = 'UTF-8';
    $mail->Encoding = 'quoted-printable';
    // What smtpmaxbulk does to every mail.
    $mail->Priority = $keep ? 3 : null;
    return $mail;
}

function send(PHPMailer $mail, string $to, string $subject, string $text, array $fields = [], string $id = ''): void {
    $mail->clearAllRecipients();
    $mail->clearCustomHeaders();
    $mail->setFrom('noreply@contoso.com', 'Jürgen Müller (via LMS)', false);
    $mail->addAddress($to, 'Zoë Learner');
    $mail->Subject = $subject;
    $mail->MessageID = $id;
    foreach ($fields as $name => $value) {
        $mail->addCustomHeader($name, $value);
    }
    $mail->isHTML(true);
    $mail->Body = '<p>' . nl2br(htmlspecialchars($text)) . '</p>';
    $mail->AltBody = $text;
    $mail->send();
}

$reset = 'https://lms.example/login/forgot_password.php?token=' . str_repeat('aB3', 11);
$post = ['List-Id' => '"Förum & Co" <moodleforum7@lms.example>', 'List-Unsubscribe' => '<>', 'X-Course-Id' => '7', 'Precedence' => 'Bulk',
    'X-Auto-Response-Suppress' => 'All', 'Auto-Submitted' => 'auto-generated'];
$digest = ['Precedence' => 'Bulk', 'X-Auto-Response-Suppress' => 'All', 'Auto-Submitted' => 'auto-generated'];

$cron = mailer(true);
for ($n = 0; $n < 3; $n++) {
    $id = '<' . hash('sha256', "post$n") . '@lms.example>';
    send($cron, "post$n@example.com", "C1: Kann mich nicht anmelden", "Bei mir stand da:\n$reset\nHilft das?", $post, $id);
    send($cron, "digest$n@example.com", 'LMS: Forum-Zusammenfassung', "1. $reset", $digest);
}
send(mailer(false), 'reset-de@example.com', 'LMS: Kennwort zurücksetzen',
    "Hallo Zoë, bestätigen Sie dies bitte, indem Sie die folgende Webseite aufrufen:\n\n$reset\n\nGrüße");
send(mailer(false), 'reset-ja@example.com', 'LMS: パスワードリセット要求', "次のページにアクセスしてください。\n\n$reset\n");
send(mailer(false), 'reset-ar@example.com', 'LMS: طلب إعادة تعيين', "يرجى زيارة الصفحة التالية:\n\n$reset\n");
send(mailer(false), 'confirm@example.com', 'LMS: account confirmation', 'https://lms.example/login/confirm.php?data=aBc/zoe');
send(mailer(false), 'mfa@example.com', "Here's your verification code", "482913\n\nhttps://lms.example/admin/tool/mfa/factor/email/email.php?instance=3&pass=1");
send(mailer(false), 'message@example.com', 'New message from Anna', "Hi Zoë!\nhttps://lms.example/message/index.php?id=7");
$cron->smtpClose();
