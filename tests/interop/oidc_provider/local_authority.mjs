// What npm's oauth4webapi and jose, which are written by others and strict, make of
// `testing::LocalAuthority` as an OpenID provider, and of an API with a `TokenValidator`.
//
// Usage: node local_authority.mjs DESCRIPTION, a file that tests/it/foreign_clients.rs writes.

import assert from 'node:assert/strict';
import { X509Certificate, createHash, createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { SignJWT, createLocalJWKSet, exportJWK, generateKeyPair, jwtVerify } from 'jose';
import * as oauth from 'oauth4webapi';

import { fetchWith } from './tls_fetch.mjs';

const world = JSON.parse(readFileSync(process.argv[2]));
const { api, orders, parcels, redirect_uri } = world;
const file = (name) => readFileSync(join(world.folder, name));
let passed = 0;

const ca = file('ca.pem');
const plain = { [oauth.customFetch]: fetchWith({ ca }) };
const over = (name) => ({ [oauth.customFetch]: fetchWith({ ca, pem: file(`${name}.pem`) }) });
const secret = oauth.ClientSecretBasic(world.secret);
const web = { client_id: 'web' };
const dpop = { client_id: 'dpop' };
const tls = { client_id: 'tls', use_mtls_endpoint_aliases: true };
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';

async function check(name, run) {
    await run();
    passed += 1;
    console.log('ok  ', name);
}

// The refusal has to have these words.
async function refused(promise, ...words) {
    const error = await promise.then(() => assert.fail('accepted'), (error) => error);
    const text = JSON.stringify([error.error, error.error_description, error.cause, error.message]);
    for (const word of words) {
        assert.ok(text.includes(word), `${word}: ${text}`);
    }
}

// Sends a request again with the nonce of the response.
async function withNonce(send) {
    try {
        return await send();
    } catch (error) {
        if (!oauth.isDPoPNonceError(error)) {
            throw error;
        }
        return send();
    }
}

const issuer = new URL(world.issuer);
const server = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, plain));
const keys = createLocalJWKSet(
    await (await plain[oauth.customFetch](server.jwks_uri, { method: 'GET' })).json());

function thumbprint(name) {
    return createHash('sha256').update(new X509Certificate(file(`${name}.pem`)).raw).digest('base64url');
}

async function byKey(name, change = () => {}) {
    const der = createPrivateKey(file('key.pem')).export({ format: 'der', type: 'pkcs8' });
    const key = await crypto.subtle.importKey('pkcs8', der, { name, hash: 'SHA-256' }, false, ['sign']);
    return oauth.PrivateKeyJwt(key, {
        [oauth.modifyAssertion](header, claims) {
            // LocalAuthority finds the certificate by it.
            header['x5t#S256'] = thumbprint('key');
            change(header, claims);
        },
    });
}
const key = await byKey('RSA-PSS');

function grant(parameters, { authentication = secret, client = web, ...options } = {}) {
    return withNonce(async () => {
        const response = await oauth.clientCredentialsGrantRequest(
            server, client, authentication, parameters, { ...plain, ...options });
        return oauth.processClientCredentialsResponse(server, client, response);
    });
}

const scope = { scope: `${orders}/.default` };
const newProver = async (client, algorithm = 'ES256') => oauth.DPoP(client, await oauth.generateKeyPair(algorithm));

async function claimsOf(token, audience = orders) {
    return (await jwtVerify(token, keys, { issuer: world.issuer, audience })).payload;
}

await check('client_secret_basic, client_secret_post', async () => {
    for (const authentication of [secret, oauth.ClientSecretPost(world.secret)]) {
        const token = await grant(scope, { authentication });
        assert.equal(token.token_type, 'bearer');
        assert.ok(token.expires_in > 0);
        assert.deepEqual((await claimsOf(token.access_token)).roles, ['Orders.Read']);
    }
    await refused(grant(scope, { authentication: oauth.ClientSecretBasic('wrong') }), 'invalid_client');
});
await check('private_key_jwt', async () => {
    for (const name of ['RSA-PSS', 'RSASSA-PKCS1-v1_5']) {
        await grant(scope, { authentication: await byKey(name) });
    }
    for (const change of [
        (_, claims) => { claims.aud = 'https://elsewhere.example'; },
        (_, claims) => { claims.exp -= 3600; },
        (_, claims) => { claims.sub = 'parcels'; },
    ]) {
        await refused(grant(scope, { authentication: await byKey('RSA-PSS', change) }), 'invalid_client');
    }
});

await check('client certificates', async () => {
    const options = { authentication: oauth.TlsClientAuth(), client: tls };
    const token = await grant(scope, { ...options, ...over('tls') });
    assert.equal(token.token_type, 'bearer');
    assert.deepEqual((await claimsOf(token.access_token)).cnf, { 'x5t#S256': thumbprint('tls') });
    for (const other of [over('stranger'), plain]) {
        await refused(grant(scope, { ...options, ...other }), 'invalid_client');
    }
    // The API's proxy puts the certificate into a header.
    const call = (name) => fetch(`${api}/orders`, {
        headers: {
            authorization: `Bearer ${token.access_token}`,
            ...(name && { 'x-client-cert': encodeURIComponent(new X509Certificate(file(`${name}.pem`)).toString()) }),
        },
    });
    assert.equal((await (await call('tls')).json()).client_id, 'tls');
    assert.equal((await call('stranger')).status, 401);
    assert.equal((await call()).status, 401);
});

function callApi(token, DPoP, url = `${api}/orders?page=2#here`, method = 'GET') {
    const options = { [oauth.allowInsecureRequests]: true, DPoP };
    return withNonce(async () => {
        const response = await oauth.protectedResourceRequest(token, method, new URL(url), undefined, undefined, options);
        return response.json();
    });
}

await check('DPoP with nonces, at the token endpoint and at the API', async () => {
    for (const algorithm of ['ES256', 'PS256', 'RS256']) {
        const DPoP = await newProver(dpop, algorithm);
        const token = await grant(scope, { authentication: key, client: dpop, DPoP });
        assert.equal(token.token_type, 'dpop');
        const { cnf } = await claimsOf(token.access_token);
        assert.deepEqual(cnf, { jkt: await DPoP.calculateThumbprint() });
        for (const method of ['GET', 'POST']) {
            const called = await callApi(token.access_token, DPoP, undefined, method);
            assert.equal(called.client_id, 'dpop');
        }
        await refused(callApi(token.access_token), 'invalid_token');
        const stranger = callApi(token.access_token, await newProver(dpop));
        await refused(stranger, 'invalid_token');
    }
    await refused(grant(scope, { authentication: key, client: dpop }), 'invalid');
});

// By jose, so each proof has one flaw and no other.
await check('proofs with one flaw', async () => {
    const pair = await generateKeyPair('ES256', { extractable: true });
    const jwk = await exportJWK(pair.publicKey);
    const at = (seconds) => Math.floor(Date.now() / 1000) + seconds;
    const hash = (text) => createHash('sha256').update(text).digest('base64url');
    const proof = ({ header, key = pair.privateKey, ...claims }) =>
        new SignJWT(JSON.parse(JSON.stringify({ jti: crypto.randomUUID(), iat: at(0), ...claims })))
            .setProtectedHeader({ typ: 'dpop+jwt', alg: 'ES256', jwk, ...header })
            .sign(key);
    const form = new URLSearchParams({ grant_type: 'client_credentials', ...scope, client_id: 'web', client_secret: world.secret });
    const request = async (url, method, body, headers) => {
        const send = url.startsWith('https') ? plain[oauth.customFetch] : fetch;
        return send(url, {
            method,
            body,
            headers: { ...(body && { 'content-type': 'application/x-www-form-urlencoded' }), ...headers },
        });
    };
    const toToken = { htm: 'POST', htu: server.token_endpoint };
    const forToken = (headers) => request(server.token_endpoint, 'POST', form.toString(), headers);
    let response = await forToken({ dpop: await proof(toToken) });
    assert.equal((await response.json()).error, 'use_dpop_nonce');
    let nonce = response.headers.get('dpop-nonce');
    response = await forToken({ dpop: await proof({ ...toToken, nonce }) });
    const { access_token } = await response.json();
    const authorization = `DPoP ${access_token}`;
    const toApi = { htm: 'GET', htu: `${api}/orders`, ath: hash(access_token) };
    const forApi = (headers) => request(`${api}/orders`, 'GET', undefined, { authorization, ...headers });
    response = await forApi({ dpop: await proof(toApi) });
    assert.equal(response.status, 401);
    assert.match(response.headers.get('www-authenticate'), /DPoP [^,]*error="use_dpop_nonce"/);
    const apiNonce = response.headers.get('dpop-nonce');
    const good = { ...toApi, nonce: apiNonce };
    assert.equal((await forApi({ dpop: await proof(good) })).status, 200);

    const rsa = await generateKeyPair('RS256', { extractable: true });
    const other = await generateKeyPair('ES256');
    const flaws = {
        'another method': { htm: 'PUT' },
        'no method': { htm: undefined },
        'another path': { htu: 'https://elsewhere.example/orders' },
        'no URI': { htu: undefined },
        'an hour old': { iat: at(-3600) },
        'an hour ahead': { iat: at(3600) },
        'no time': { iat: undefined },
        'a time as text': { iat: String(at(0)) },
        'no id': { jti: undefined },
        'an empty id': { jti: '' },
        'another type': { header: { typ: 'JWT' } },
        'no type': { header: { typ: undefined } },
        'no key': { header: { jwk: undefined } },
        'the private key': { header: { jwk: await exportJWK(pair.privateKey) } },
        'the key of another': { key: other.privateKey },
        'an RSA key for ES256': { header: { jwk: await exportJWK(rsa.publicKey) } },
        'a symmetric key': {
            header: { alg: 'HS256', jwk: { kty: 'oct', k: 'c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA' } },
            key: Buffer.from('secret-secret-secret-secret-secret'),
        },
        'an unknown nonce': { nonce: 'unknown' },
    };
    const judge = async (name, headers, send) => {
        const response = await send(headers);
        assert.ok([400, 401].includes(response.status), `${name}: ${response.status}`);
        const text = `${response.headers.get('www-authenticate')} ${await response.text()}`;
        assert.match(text, /invalid_dpop_proof|use_dpop_nonce|invalid_token|invalid_request/, name);
    };
    for (const [name, flaw] of Object.entries(flaws)) {
        await judge(`API: ${name}`, { dpop: await proof({ ...good, ...flaw }) }, forApi);
        await judge(`token: ${name}`, { dpop: await proof({ ...toToken, nonce, ...flaw }) }, forToken);
    }
    const once = await proof(good);
    assert.equal((await forApi({ dpop: once })).status, 200);
    for (const [name, headers] of Object.entries({
        'a replay': { dpop: once },
        'another token': { dpop: await proof({ ...good, ath: hash('another') }) },
        'no hash of the token': { dpop: await proof({ ...good, ath: undefined }) },
        'as a bearer token': { dpop: await proof(good), authorization: `Bearer ${access_token}` },
        'no proof': {},
        'two proofs': { dpop: `${await proof(good)}, ${await proof(good)}` },
        'no signature': { dpop: (await proof(good)).split('.').slice(0, 2).join('.') + '.' },
    })) {
        await judge(name, headers, forApi);
    }
    const replayed = await proof({ ...toToken, nonce });
    assert.equal((await forToken({ dpop: replayed })).status, 200);
    await judge('token: a replay', { dpop: replayed }, forToken);
    // What may differ.
    for (const [name, same] of Object.entries({
        'the scheme and the host in upper case': { htu: `${api.replace('http:', 'HTTP:')}/orders` },
        'a query and a fragment in the proof': { htu: `${api}/orders?page=1#x` },
        'a second ago': { iat: at(-1) },
        'more claims': { exp: at(60), sub: 'me' },
        'more of the key': { header: { jwk: { ...jwk, kid: 'k', use: 'sig', alg: 'ES256' } } },
    })) {
        const response = await forApi({ dpop: await proof({ ...good, ...same }) });
        assert.equal(response.status, 200, `${name}: ${response.headers.get('www-authenticate')}`);
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
            assert.ok(location.startsWith(redirect_uri), location);
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
        const user = page.match(new RegExp(`name="user" value="([^"]*)">[^/]*<br><small>${world.user}`));
        form.set(...(user ? ['user', text(user[1])] : ['answer', 'accept']));
        [method, body] = ['POST', form.toString()];
    }
}

async function push(parameters, authentication, options) {
    return withNonce(async () => {
        const response = await oauth.pushedAuthorizationRequest(
            server, web, authentication, parameters, { ...plain, ...options });
        const { request_uri } = await oauth.processPushedAuthorizationResponse(server, web, response);
        return { client_id: web.client_id, request_uri };
    });
}

async function authorize(verifier, { pushed, authentication, ...options }) {
    const parameters = {
        client_id: web.client_id,
        redirect_uri,
        response_type: 'code',
        scope: `openid profile offline_access ${orders}/read`,
        state: 's',
        nonce: 'n',
        code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
        code_challenge_method: 'S256',
    };
    if (options.DPoP && !pushed) {
        parameters.dpop_jkt = await options.DPoP.calculateThumbprint();
    }
    const page = new URL(server.authorization_endpoint);
    page.search = new URLSearchParams(pushed ? await push(parameters, authentication, options) : parameters);
    return oauth.validateAuthResponse(server, web, await browse(page), 's');
}

function redeem(back, verifier, authentication, options) {
    return withNonce(async () => {
        const response = await oauth.authorizationCodeGrantRequest(
            server, web, authentication, back, redirect_uri, verifier, { ...plain, ...options });
        return oauth.processAuthorizationCodeResponse(server, web, response, { expectedNonce: 'n' });
    });
}

await check('sign-in, pushed or not, with and without DPoP', async () => {
    for (const pushed of [false, true]) {
        for (const DPoP of [undefined, await newProver(web)]) {
            for (const authentication of [secret, key]) {
                const options = { ...(DPoP && { DPoP }) };
                const verifier = oauth.generateRandomCodeVerifier();
                const back = await authorize(verifier, { pushed, authentication, ...options });
                const token = await redeem(back, verifier, authentication, options);
                assert.equal(oauth.getValidatedIdTokenClaims(token).preferred_username, world.user);
                assert.equal(token.token_type, DPoP ? 'dpop' : 'bearer');
                const called = await callApi(token.access_token, DPoP);
                assert.equal(called.client_id, 'web');
                const refreshed = await withNonce(async () => oauth.processRefreshTokenResponse(server, web,
                    await oauth.refreshTokenGrantRequest(
                        server, web, authentication, token.refresh_token, { ...plain, ...options })));
                assert.notEqual(refreshed.access_token, token.access_token);
                await callApi(refreshed.access_token, DPoP);
            }
        }
    }
});
await check('a code that is bound to a key', async () => {
    for (const pushed of [false, true]) {
        const verifier = oauth.generateRandomCodeVerifier();
        const back = await authorize(verifier, { pushed, authentication: key, DPoP: await newProver(web) });
        const other = { DPoP: await newProver(web) };
        await refused(redeem(back, verifier, key, other), 'invalid_grant');
    }
});
await check('a pushed request that is refused', async () => {
    const parameters = { redirect_uri, response_type: 'code', scope: 'openid' };
    await refused(push(parameters, oauth.ClientSecretBasic('wrong')), 'invalid_client');
    await refused(push({ ...parameters, redirect_uri: 'https://elsewhere.example' }, secret), 'invalid_');
    await refused(push({ ...parameters, request_uri: 'urn:x' }, secret), 'invalid_request');
});

await check('introspection', async () => {
    const introspect = async (token, client = 'parcels') => {
        const response = await oauth.introspectionRequest(server, { client_id: client }, secret, token, plain);
        return oauth.processIntrospectionResponse(server, { client_id: client }, response);
    };
    const { access_token } = await grant({ scope: `${parcels}/.default` });
    const active = await introspect(access_token);
    assert.equal(active.active, true);
    assert.equal(active.client_id, 'web');
    assert.equal(active.iss, world.issuer);
    assert.ok(active.exp > Date.now() / 1000);
    assert.deepEqual(await introspect('unknown'), { active: false });
    assert.deepEqual(await introspect(access_token, 'gateway'), { active: false });
    await refused(oauth.introspectionRequest(server, web, oauth.ClientSecretBasic('wrong'), access_token, plain)
        .then((response) => oauth.processIntrospectionResponse(server, web, response)), 'invalid_client');
});
await check('token exchange', async () => {
    const gateway = { client_id: 'gateway' };
    const exchange = (parameters, options = {}) => withNonce(async () => {
        const response = await oauth.genericTokenEndpointRequest(server, gateway, secret,
            'urn:ietf:params:oauth:grant-type:token-exchange',
            { subject_token: world.users_token, subject_token_type: ACCESS_TOKEN, audience: orders, ...parameters },
            { ...plain, ...options });
        return oauth.processGenericTokenEndpointResponse(server, gateway, response);
    });
    const token = await exchange({ scope: 'read' });
    assert.equal(token.issued_token_type, ACCESS_TOKEN);
    const claims = await claimsOf(token.access_token);
    assert.equal(claims.scp, 'read');
    assert.equal((await callApi(token.access_token)).client_id, 'gateway');
    const DPoP = await newProver(gateway);
    const bound = await exchange({}, { DPoP });
    assert.equal(bound.token_type, 'dpop');
    assert.equal((await callApi(bound.access_token, DPoP)).client_id, 'gateway');
    await refused(exchange({ audience: 'api://unknown' }), 'invalid_target');
    await refused(exchange({ subject_token: `${world.users_token}A` }), 'invalid_');
    await refused(exchange({ subject_token_type: 'urn:ietf:params:oauth:token-type:saml2' }), 'invalid_request');
});

console.log(passed, 'passed, 0 failed');
