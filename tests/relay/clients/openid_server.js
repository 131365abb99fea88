// npm's oidc-provider as an OpenID provider on loopback: device flow, PKCE demanded, refresh tokens that work once. People sign in on its own
// pages, with any name and password. Argument: how many seconds an access token lives.
//
// Prints its port, then obeys the lines on its standard input, one answer each, until that ends:
//   granted TYPE   how many requests of this grant type were granted
//   refused        how many requests for tokens were refused
//   first          the first refresh token that it has issued
'use strict';
const http = require('node:http');
const path = require('node:path');
const readline = require('node:readline');
const { pathToFileURL } = require('node:url');

const CLIENT = 'xoauth2-relay';
const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code';
const life = Number(process.argv[2]);

// Its warnings; standard output is for answers.
console.info = console.warn = console.error;

async function main() {
    // It is an ES module, which NODE_PATH does not find.
    const file = path.join(process.env.NODE_PATH, 'oidc-provider', 'lib', 'index.js');
    const { default: Provider } = await import(pathToFileURL(file));
    let answer = (_, response) => response.writeHead(503).end();
    const server = http.createServer((request, response) => answer(request, response));
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address();

    const provider = new Provider(`http://127.0.0.1:${port}`, {
        clients: [{
            client_id: CLIENT,
            application_type: 'native',
            token_endpoint_auth_method: 'none',
            grant_types: ['authorization_code', 'refresh_token', DEVICE],
            response_types: ['code'],
            redirect_uris: ['http://localhost/'],
        }],
        cookies: { keys: ['of this test alone'] },
        features: { deviceFlow: { enabled: true }, devInteractions: { enabled: true } },
        pkce: { required: () => true },
        rotateRefreshToken: true,
        ttl: { AccessToken: life, AuthorizationCode: 600, DeviceCode: 600, Grant: 86400, Interaction: 600, RefreshToken: 86400, Session: 86400 },
    });
    answer = provider.callback();

    const granted = {};
    let refused = 0;
    let first = null;
    provider.on('grant.success', (ctx) => {
        const type = ctx.oidc.params.grant_type;
        granted[type] = (granted[type] ?? 0) + 1;
        first ??= ctx.body.refresh_token;
    });
    provider.on('grant.error', (_, error) => {
        if (!['authorization_pending', 'slow_down'].includes(error.error)) refused += 1;
    });
    provider.on('server_error', (_, error) => console.error(error));

    console.log(port);
    for await (const line of readline.createInterface({ input: process.stdin })) {
        const [order, argument] = line.split(' ');
        console.log({ granted: granted[argument] ?? 0, refused, first }[order]);
    }
    process.exit(0);
}

main();
