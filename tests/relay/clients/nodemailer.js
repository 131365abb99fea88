// Sends with nodemailer: plain, with files, in other scripts, to a list; then many over a pool. Arguments: port, number of mails in the pool.
'use strict';
const nodemailer = require('nodemailer');

const [port, count] = process.argv.slice(2).map(Number);
const server = { host: '127.0.0.1', port, auth: { user: 'anyone', pass: 'any random text' } };
const from = 'LMS <lms@contoso.com>';

async function oneByOne() {
    const transport = nodemailer.createTransport(server);
    await transport.sendMail({ from, to: 'you@example.com', subject: 'plain', text: 'hello\n.\n..dots\n.\n' });
    await transport.sendMail({
        from,
        to: 'you@example.com',
        subject: 'files',
        text: 'see the files',
        html: '<p>see the files <img src="cid:dot@lms.example"></p>',
        attachments: [
            { filename: 'all bytes.bin', content: Buffer.from(Array.from({ length: 65536 }, (_, n) => n % 256)) },
            { filename: 'Übersicht.txt', content: 'Grüße\n.\n', contentTransferEncoding: '8bit' },
            { filename: 'dot.png', content: 'iVBORw0KGgo=', encoding: 'base64', cid: 'dot@lms.example' },
        ],
    });
    await transport.sendMail({
        from: { name: 'Jürgen Müller – 学习', address: 'noreply@contoso.com' },
        to: { name: 'Zoë, Learner', address: 'zoe@example.com' },
        subject: 'Passwort zurücksetzen ✔ '.repeat(8),
        text: 'Привет, こんにちは 👋\n'.repeat(40),
        textEncoding: 'base64',
    });
    const to = Array.from({ length: 30 }, (_, n) => ({ name: `Learner, No. ${n}`, address: `learner${n}@example.com` }));
    await transport.sendMail({
        from, to, cc: 'Teacher <teacher@example.com>', bcc: 'hidden@example.com', subject: 'a list', text: 'to all of you\n',
    });
    transport.close();
}

async function pooled() {
    const transport = nodemailer.createTransport({ ...server, pool: true, maxConnections: 5, maxMessages: Infinity });
    const mails = Array.from({ length: count }, (_, n) => ({
        from, to: `learner${n}@example.com`, subject: `Mail ${n}`, text: `Number ${n}\n.\n`.repeat(n + 1),
    }));
    await Promise.all(mails.map((mail) => transport.sendMail(mail)));
    transport.close();
}

oneByOne().then(pooled).catch((error) => {
    console.error(error);
    process.exitCode = 1;
});
