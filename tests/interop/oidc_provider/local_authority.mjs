// What npm's oauth4webapi and jose, which are written by others and strict, make of
// `testing::LocalAuthority`, which the example local_authority serves over TLS.
//
// Usage: node local_authority.mjs URL FOLDER RULES, the address, the folder and the rules of the
// example.

import assert from 'node:assert/strict';
import { createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import * as oauth from 'oauth4webapi';

import { fetchWith } from './tls_fetch.mjs';

const [base, folder, rules] = process.argv.slice(2);
const file = (name) => readFileSync(join(folder, name));
const TENANT = 'contoso.onmicrosoft.com';
const CLIENT_ID = '11111111-2222-3333-4444-555555555555';
const DRIVE_ID = '66666666-7777-8888-9999-000000000000';
const REDIRECT_URI = 'http://localhost:5000/signed-in';
const SCOPE = { scope: 'https://graph.microsoft.com/.default' };
const ADELE = 'adele@contoso.onmicrosoft.com';
let passed = 0;

const plain = { [oauth.customFetch]: fetchWith({ ca: file('ca.pem') }) };
const client = { client_id: CLIENT_ID };
const drive = { client_id: DRIVE_ID };
const secret = oauth.ClientSecretBasic('s3cret');

async function check(name, run) {
    await run();
    passed += 1;
    console.log('ok  ', name);
}

// The refusal, as text.
async function refused(promise, ...words) {
    const error = await promise.then(() => assert.fail('accepted'), (error) => error);
    const text = JSON.stringify([error.error, error.error_description, error.cause, error.message]);
    for (const word of words) {
        assert.ok(text.includes(word), `${word}: ${text}`);
    }
}

async function discover() {
    // The issuer has the tenant's id, which is another at every start.
    const named = await plain[oauth.customFetch](
        `${base}/${TENANT}/v2.0/.well-known/openid-configuration`, { method: 'GET' });
    const issuer = new URL((await named.json()).issuer);
    return oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, plain));
}

const server = await discover();

async function grant(parameters, { authentication = secret, who = client, ...options } = {}) {
    const response = await oauth.clientCredentialsGrantRequest(
        server, who, authentication, parameters, { ...plain, ...options });
    return oauth.processClientCredentialsResponse(server, who, response);
}

await check('client_secret_basic, client_secret_post', async () => {
    for (const authentication of [secret, oauth.ClientSecretPost('s3cret')]) {
        const token = await grant(SCOPE, { authentication });
        assert.equal(token.token_type, 'bearer');
        assert.ok(token.expires_in > 0);
    }
    await refused(grant(SCOPE, { authentication: oauth.ClientSecretBasic('wrong') }), 'invalid_client');
});

async function daemonsKey(hash) {
    const key = createPrivateKey(file('daemon.pem')).export({ format: 'der', type: 'pkcs8' });
    return crypto.subtle.importKey('pkcs8', key, hash, false, ['sign']);
}

// Entra finds the certificate by its thumbprint.
async function byKey(name) {
    const { X509Certificate, createHash } = await import('node:crypto');
    const thumbprint = createHash('sha256').update(new X509Certificate(file('daemon.pem')).raw).digest('base64url');
    return oauth.PrivateKeyJwt(await daemonsKey({ name, hash: 'SHA-256' }), {
        [oauth.modifyAssertion](header, claims) {
            header['x5t#S256'] = thumbprint;
            // Entra's, instead of the issuer.
            claims.aud = rules === 'entra' ? server.token_endpoint : server.issuer;
        },
    });
}

await check('private_key_jwt', async () => {
    for (const name of ['RSA-PSS', 'RSASSA-PKCS1-v1_5']) {
        await grant(SCOPE, { authentication: await byKey(name) });
    }
});

// As a user at the pages.
async function browse(url) {
    const send = plain[oauth.customFetch];
    const cookies = new Map();
    let [method, body] = ['GET'];
    for (;;) {
        const headers = { cookie: [...cookies].map((pair) => pair.join('=')).join('; ') };
        if (body) {
            headers['content-type'] = 'application/x-www-form-urlencoded';
        }
        const response = await send(url, { method, headers, body });
        const page = await response.text();
        for (const cookie of response.headers.getSetCookie()) {
            cookies.set(...cookie.split(';')[0].split(/=(.*)/).slice(0, 2));
        }
        const location = response.headers.get('location');
        if (location) {
            assert.ok(location.startsWith(REDIRECT_URI), location);
            return new URL(location);
        }
        assert.equal(response.status, 200, page);
        const text = (html) => html.replace(/&#x([0-9a-f]+);/gi, (_, code) => String.fromCodePoint(parseInt(code, 16)))
            .replaceAll('&quot;', '"').replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');
        url = new URL(text(page.match(/action="([^"]*)"/)[1]), url);
        const form = new URLSearchParams();
        for (const [, name, value] of page.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)">/g)) {
            form.set(name, text(value));
        }
        const user = page.match(new RegExp(`name="user" value="([^"]*)">[^/]*<br><small>${ADELE}`));
        form.set(...(user ? ['user', text(user[1])] : ['answer', 'accept']));
        [method, body] = ['POST', form.toString()];
    }
}

async function push(parameters, authentication, options) {
    const response = await oauth.pushedAuthorizationRequest(
        server, client, authentication, parameters, { ...plain, ...options });
    const { request_uri } = await oauth.processPushedAuthorizationResponse(server, client, response);
    return { client_id: CLIENT_ID, request_uri };
}

async function signIn({ authentication = secret, pushed = false, ...options } = {}) {
    const verifier = oauth.generateRandomCodeVerifier();
    const parameters = {
        client_id: CLIENT_ID,
        redirect_uri: REDIRECT_URI,
        response_type: 'code',
        scope: 'openid profile offline_access api://drive/Files.Read',
        state: 's',
        nonce: 'n',
        code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
        code_challenge_method: 'S256',
    };
    const page = new URL(server.authorization_endpoint);
    page.search = new URLSearchParams(pushed ? await push(parameters, authentication, options) : parameters);
    const back = oauth.validateAuthResponse(server, client, await browse(page), 's');
    const response = await oauth.authorizationCodeGrantRequest(
        server, client, authentication, back, REDIRECT_URI, verifier, { ...plain, ...options });
    return oauth.processAuthorizationCodeResponse(server, client, response, { expectedNonce: 'n' });
}

await check('authorization code with PKCE, the ID token, the refresh token', async () => {
    const token = await signIn();
    const claims = oauth.getValidatedIdTokenClaims(token);
    assert.equal(claims.preferred_username, ADELE);
    const response = await oauth.refreshTokenGrantRequest(server, client, secret, token.refresh_token, plain);
    const refreshed = await oauth.processRefreshTokenResponse(server, client, response);
    assert.notEqual(refreshed.access_token, token.access_token);
});

if (rules !== 'entra') {
    await check('a pushed authorization request', async () => {
        for (const authentication of [secret, await byKey('RSA-PSS')]) {
            await signIn({ authentication, pushed: true });
        }
        await refused(push({ redirect_uri: REDIRECT_URI }, oauth.ClientSecretPost('wrong')), 'invalid_client');
    });
}

console.log(passed, 'passed, 0 failed');
