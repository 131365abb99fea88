<?php
// Sends as Moodle does: PHPMailer with AUTH LOGIN and a kept connection (then it says RSET after each mail), and a Sender that is not the From.
// Arguments: port, number of mails.
require '/usr/share/php/libphp-phpmailer/autoload.php';

use PHPMailer\PHPMailer\PHPMailer;

[, $port, $count] = $argv;
$mail = new PHPMailer(true);
$mail->isSMTP();
$mail->Host = '127.0.0.1:' . $port;
$mail->SMTPAuth = true;
$mail->AuthType = 'LOGIN';
$mail->Username = 'moodle';
$mail->Password = 'any random text';
$mail->SMTPSecure = '';
$mail->SMTPAutoTLS = false;
$mail->SMTPKeepAlive = true;
$mail->CharSet = 'UTF-8';
$mail->Encoding = 'quoted-printable';

for ($n = 0; $n < (int) $count; $n++) {
    $mail->clearAllRecipients();
    $mail->clearReplyTos();
    $mail->MessageID = '';
    $mail->Sender = 'moodleAABAAAAAg==0123456789abcdef0123456789abcdef@school.example';
    $mail->setFrom('noreply@contoso.com', 'Jürgen Müller (via LMS)', false);
    $mail->addReplyTo('noreply@contoso.com', 'Nicht antworten');
    $mail->addAddress("learner$n@example.com", 'Zoë Learner');
    $mail->Subject = "LMS: Passwort zurücksetzen $n";
    $mail->isHTML(true);
    $mail->Body = "<p>Grüße</p>\n<p>.</p>\n.\n..\n<a href=\"https://lms.example/login/forgot_password.php?token=$n\">hier</a>";
    $mail->AltBody = "Grüße\n\n.\n..\n.punkt\nhttps://lms.example/login/forgot_password.php?token=$n\n";
    $mail->send();
}
$mail->smtpClose();
