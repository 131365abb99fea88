// Drives Chromium for the tests: a person who opens pages, types, clicks, and looks. Arguments: more switches for Chromium, such as which names there are.
// Obeys the lines on standard input, each a JSON array of an order and its arguments, with one line of JSON each: {"ok": …} or {"error": …}.
'use strict';
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const readline = require('node:readline');
const { chromium } = require('playwright-core');

const SWITCHES = [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
];
const PATIENCE = 30_000;

async function main() {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'xoauth2-relay-chromium-'));
    const context = await chromium.launchPersistentContext(folder, {
        executablePath: process.env.XOAUTH2_RELAY_CHROMIUM,
        args: [...SWITCHES, ...process.argv.slice(2)],
    });
    context.setDefaultTimeout(PATIENCE);
    const page = context.pages()[0] ?? await context.newPage();
    // What the address bar shows, also of a page that could not be opened.
    let address = '';
    page.on('request', (request) => {
        if (request.isNavigationRequest() && request.frame() === page.mainFrame()) address = request.url();
    });
    const problems = [];
    page.on('console', (message) => {
        if (message.type() === 'error') problems.push(message.text());
    });

    const orders = {
        // A page that cannot be opened is one that people see, too.
        open: (url) => page.goto(url).then(() => true, () => false),
        address: () => address,
        text: () => page.evaluate(() => document.body.innerText),
        click: (name) => page.getByRole('button', { name, exact: true }).click({ noWaitAfter: true }),
        choose: (name) => page.getByRole('radio', { name }).check(),
        fill: (selector, text) => page.locator(selector).fill(text),
        press: (key) => page.keyboard.press(key),
        type: (text) => page.keyboard.type(text),
        focused: () => page.evaluate(() => document.activeElement.innerText || document.activeElement.name || ''),
        // Wider than the window: a page that a phone has to be pushed about for.
        overflows: (width) => page.setViewportSize({ width, height: 700 })
            .then(() => page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth)),
        picture: (file, width, colorScheme) => page.setViewportSize({ width, height: 700 })
            .then(() => page.emulateMedia({ colorScheme }))
            .then(() => page.screenshot({ path: file })).then(() => true),
        problems: () => problems.splice(0),
        close: () => page.close(),
    };
    console.log(JSON.stringify({ ok: 'ready' }));
    for await (const line of readline.createInterface({ input: process.stdin })) {
        const [order, ...given] = JSON.parse(line);
        try {
            console.log(JSON.stringify({ ok: (await orders[order](...given)) ?? null }));
        } catch (error) {
            console.log(JSON.stringify({ error: `${order}: ${error.message}` }));
        }
    }
    await context.close();
    fs.rmSync(folder, { recursive: true, force: true });
}

main().catch((error) => {
    console.error(error);
    process.exit(1);
});
