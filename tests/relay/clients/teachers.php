<?php
// Sends as Moodle does with handlebounces and allowedemaildomains: MAIL FROM is another one for each user, From is the teacher's own address.
// Argument: port.
require '/usr/share/php/libphp-phpmailer/autoload.php';

use PHPMailer\PHPMailer\PHPMailer;

[, $port] = $argv;
$from = [
    ['juergen@school.example', 'Jürgen Müller (via LMS)', null],
    ['zoya@school.example', 'Зоя Петрова (via LMS)', 'forum-reply@school.example'],
    ['noreply@contoso.com', 'Nicht antworten (via LMS)', null],
];
foreach ($from as $n => [$address, $name, $replyTo]) {
    $mail = new PHPMailer(true);
    $mail->isSMTP();
    $mail->Host = '127.0.0.1:' . $port;
    $mail->SMTPSecure = '';
    $mail->SMTPAutoTLS = false;
    $mail->CharSet = 'UTF-8';
    $mail->Encoding = 'quoted-printable';
    $mail->Sender = 'moodleAABAAAAAg==0123456789abcdef0123456789abcdef@school.example';
    $mail->setFrom($address, $name, false);
    if ($replyTo !== null) {
        $mail->addReplyTo($replyTo);
    }
    $mail->addAddress("learner$n@example.com", 'Zoë Learner');
    $mail->Subject = 'Übung ' . ($n + 1) . ': Grüße';
    $mail->Body = "Grüße\n.\n";
    $mail->send();
}
