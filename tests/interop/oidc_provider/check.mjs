// Whether the issuers of bound.mjs do what the tests in Rust presume, by npm's oauth4webapi.
//
// Usage: node check.mjs DESCRIPTION, the file with the line that server.mjs prints.

import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';

import * as oauth from 'oauth4webapi';

import { fetchWith } from './tls_fetch.mjs';

const { ca, bound_issuers: description } = JSON.parse(readFileSync(process.argv[2]));
const { redirect_uri, orders, mtls_orders, certificates } = description;
const ORDERS = { resource: 'https://orders.example', scope: 'orders.read' };
const PARCELS = { resource: 'https://parcels.example', scope: 'parcels.read' };
let passed = 0;

const file = (name) => readFileSync(certificates[name]);
const fetchBy = (name) => fetchWith({ ca: readFileSync(ca), pem: name && file(name) });
const by = (name) => ({ [oauth.customFetch]: fetchBy(name) });
const thumbprint = (name) => Buffer.from(new X509Certificate(file(name)).fingerprint256.replaceAll(':', ''), 'hex')
    .toString('base64url');

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

const serverOf = async ({ issuer }) => {
    const response = await oauth.discoveryRequest(new URL(issuer), by());
    return oauth.processDiscoveryResponse(new URL(issuer), response);
};
const bound = await serverOf(description.bound);
const fapi = await serverOf(description.fapi);

const ALGORITHMS = {
    PS256: { name: 'RSA-PSS', hash: 'SHA-256' },
    RS256: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
    ES256: { name: 'ECDSA', namedCurve: 'P-256' },
    ES384: { name: 'ECDSA', namedCurve: 'P-384' },
    EdDSA: { name: 'Ed25519' },
};

async function keyOf(algorithm) {
    const der = createPrivateKey(file(algorithm)).export({ format: 'der', type: 'pkcs8' });
    return crypto.subtle.importKey('pkcs8', der, ALGORITHMS[algorithm], false, ['sign']);
}

// oauth4webapi writes `Ed25519`, where most others write the older name.
async function byKey(algorithm) {
    return oauth.PrivateKeyJwt(await keyOf(algorithm), {
        [oauth.modifyAssertion](header) {
            if (header.alg === 'Ed25519') {
                header.alg = 'EdDSA';
            }
        },
    });
}

async function grant(server, client, authentication, parameters, options) {
    const send = () => oauth.clientCredentialsGrantRequest(server, client, authentication, parameters, options);
    const read = async () => oauth.processClientCredentialsResponse(server, client, await send());
    try {
        return await read();
    } catch (error) {
        if (!oauth.isDPoPNonceError(error)) {
            throw error;
        }
        return await read();
    }
}

async function call(token, url, options) {
    const send = () => oauth.protectedResourceRequest(token, 'GET', new URL(url), undefined, undefined, options);
    let response = await send().catch((error) => {
        if (!oauth.isDPoPNonceError(error)) {
            throw error;
        }
        return send();
    });
    return response.json();
}

async function introspect(token, options = by()) {
    const client = { client_id: 'parcels' };
    const secret = oauth.ClientSecretBasic(description.bound.secret);
    const response = await oauth.introspectionRequest(bound, client, secret, token, options);
    return oauth.processIntrospectionResponse(bound, client, response);
}

const newKey = () => oauth.generateKeyPair('ES256');
const mtls = (client_id) => ({ client_id, use_mtls_endpoint_aliases: true });

await check('tls_client_auth, a bound token', async () => {
    for (const name of ['tls', 'tls_next']) {
        const { access_token } = await grant(bound, mtls('tls'), oauth.TlsClientAuth(), ORDERS, by(name));
        const { certificate, cnf } = await call(access_token, mtls_orders, by(name));
        assert.equal(certificate, thumbprint(name));
        assert.equal(cnf['x5t#S256'], thumbprint(name));
        const other = name === 'tls' ? 'tls_next' : 'tls';
        await refused(call(access_token, mtls_orders, by(other)), 'invalid_token');
        await refused(call(access_token, orders, by(name)), 'invalid_token');
    }
});
await check('tls_client_auth, refused', async () => {
    const client = mtls('tls');
    const by_tls = oauth.TlsClientAuth();
    await refused(grant(bound, client, by_tls, ORDERS, by('stranger')), 'invalid_client');
    await refused(grant(bound, client, by_tls, ORDERS, by('unregistered')), 'invalid_client');
    await refused(grant(bound, client, by_tls, ORDERS, by()), 'invalid_client');
    await refused(grant(bound, { client_id: 'tls' }, by_tls, ORDERS, by('tls')), 'invalid_client');
});
await check('self_signed_tls_client_auth', async () => {
    const client = mtls('self-signed');
    for (const name of ['self_signed', 'self_signed_next']) {
        const { access_token } = await grant(bound, client, oauth.TlsClientAuth(), PARCELS, by(name));
        const { active, cnf } = await introspect(access_token);
        assert.ok(active);
        assert.equal(cnf['x5t#S256'], thumbprint(name));
    }
    await refused(grant(bound, client, oauth.TlsClientAuth(), ORDERS, by('unregistered')), 'invalid_client');
});
await check('a bound token beside a secret', async () => {
    const secret = oauth.ClientSecretBasic(description.bound.secret);
    const { access_token } = await grant(bound, mtls('secret-tls'), secret, ORDERS, by('self_signed'));
    await call(access_token, mtls_orders, by('self_signed'));
    await refused(grant(bound, mtls('secret-tls'), secret, ORDERS, by()), 'invalid_grant');
});
await check('DPoP without and with nonces', async () => {
    const secret = oauth.ClientSecretBasic(description.bound.secret);
    for (const [client_id, authentication] of [['dpop', secret], ['dpop-nonce', await byKey('ES256')]]) {
        const client = { client_id };
        const DPoP = oauth.DPoP(client, await newKey());
        const options = { ...by(), DPoP };
        const token = await grant(bound, client, authentication, ORDERS, options);
        assert.equal(token.token_type, 'dpop');
        const first = await call(token.access_token, orders, options);
        const next = await call(token.access_token, orders, options);
        assert.equal(first.cnf.jkt, await DPoP.calculateThumbprint());
        assert.notEqual(first.nonce, next.nonce);
        await refused(call(token.access_token, orders, by()), 'invalid_token');
        const stranger = { ...by(), DPoP: oauth.DPoP(client, await newKey()) };
        await refused(call(token.access_token, orders, stranger), 'invalid_token');
        await refused(grant(bound, client, authentication, ORDERS, by()), 'invalid_grant');
    }
});
await check('a nonce is demanded', async () => {
    const client = { client_id: 'dpop-nonce' };
    const options = { ...by(), DPoP: oauth.DPoP(client, await newKey()) };
    const response = await oauth.clientCredentialsGrantRequest(bound, client, await byKey('ES256'), ORDERS, options);
    assert.equal(response.status, 400);
    assert.ok(response.headers.get('dpop-nonce'));
    assert.equal((await response.json()).error, 'use_dpop_nonce');
});
await check('every algorithm of private_key_jwt', async () => {
    for (const algorithm of Object.keys(ALGORITHMS)) {
        const client = { client_id: algorithm.toLowerCase() };
        const { access_token } = await grant(bound, client, await byKey(algorithm), PARCELS, by());
        assert.equal((await introspect(access_token)).client_id, client.client_id);
    }
});
await check('introspection', async () => {
    assert.equal((await introspect('unknown')).active, false);
});

await check('token exchange', async () => {
    const secret = oauth.ClientSecretBasic(description.bound.secret);
    const subject = await grant(bound, { client_id: 'es256' }, await byKey('ES256'), ORDERS, by());
    const gateway = { client_id: 'gateway' };
    const exchange = async (parameters) => {
        const response = await oauth.genericTokenEndpointRequest(bound, gateway, secret,
            'urn:ietf:params:oauth:grant-type:token-exchange', {
                subject_token: subject.access_token,
                subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
                ...parameters,
            }, by());
        return oauth.processGenericTokenEndpointResponse(bound, gateway, response);
    };
    const { access_token } = await exchange(ORDERS);
    assert.equal((await call(access_token, orders, by())).scheme, 'Bearer');
    await refused(exchange({ subject_token: `${subject.access_token}A` }), 'invalid_request');
    await refused(exchange({ audience: 'unknown' }), 'invalid_target');
});

// As a user who consents to all of it.
async function browse(url) {
    const cookies = new Map();
    const send = fetchBy();
    let [method, body] = ['GET'];
    for (;;) {
        const headers = { cookie: [...cookies].map((pair) => pair.join('=')).join('; ') };
        if (body) {
            headers['content-type'] = 'application/x-www-form-urlencoded';
        }
        const response = await send(url, { method, headers, body });
        for (const cookie of response.headers.getSetCookie()) {
            cookies.set(...cookie.split(';')[0].split(/=(.*)/).slice(0, 2));
        }
        const location = response.headers.get('location');
        const page = await response.text();
        [method, body] = ['GET'];
        if (location) {
            url = new URL(location, url);
            if (url.href.startsWith(redirect_uri)) {
                return url;
            }
        } else {
            assert.equal(response.status, 200, page);
            url = new URL(page.match(/action="([^"]*)"/)[1], url);
            const prompt = page.match(/name="prompt" value="([^"]*)"/)[1];
            [method, body] = ['POST', `prompt=${prompt}&login=adele&password=any`];
        }
    }
}

async function signIn(server, client, authentication, options) {
    const verifier = oauth.generateRandomCodeVerifier();
    const parameters = {
        ...ORDERS,
        scope: 'openid offline_access orders.read',
        redirect_uri,
        response_type: 'code',
        prompt: 'consent',
        state: 's',
        nonce: 'n',
        code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
        code_challenge_method: 'S256',
    };
    const push = async () => oauth.processPushedAuthorizationResponse(server, client,
        await oauth.pushedAuthorizationRequest(server, client, authentication, parameters, options));
    const { request_uri } = await push().catch((error) => {
        if (!oauth.isDPoPNonceError(error)) {
            throw error;
        }
        return push();
    });
    const page = new URL(server.authorization_endpoint);
    page.search = new URLSearchParams({ client_id: client.client_id, request_uri });
    const back = oauth.validateAuthResponse(server, client, await browse(page), 's');
    const redeem = async () => oauth.processAuthorizationCodeResponse(server, client,
        await oauth.authorizationCodeGrantRequest(server, client, authentication, back, redirect_uri, verifier, options),
        { expectedNonce: 'n' });
    const token = await redeem().catch((error) => {
        if (!oauth.isDPoPNonceError(error)) {
            throw error;
        }
        return redeem();
    });
    const refresh = async () => oauth.processRefreshTokenResponse(server, client,
        await oauth.refreshTokenGrantRequest(server, client, authentication, token.refresh_token, options));
    return { token, refreshed: await refresh() };
}

await check('a pushed authorization request is demanded', async () => {
    const page = new URL(bound.authorization_endpoint);
    page.search = new URLSearchParams({
        client_id: 'par', response_type: 'code', scope: 'openid', redirect_uri, code_challenge: 'a'.repeat(43),
        code_challenge_method: 'S256',
    });
    const back = await browse(page);
    assert.equal(back.searchParams.get('error'), 'invalid_request');
    assert.match(back.searchParams.get('error_description'), /Pushed Authorization Request must be used/);
    const client = { client_id: 'par' };
    await signIn(bound, client, await byKey('ES256'), by());
});
await check('FAPI 2.0', async () => {
    for (const [client_id, algorithm, certificate] of [
        ['key-dpop', 'PS256'],
        ['key-dpop-nonce', 'ES256'],
        ['key-tls', 'ES256', 'self_signed'],
        ['tls-tls', undefined, 'tls'],
        ['tls-dpop', undefined, 'tls'],
    ]) {
        const client = {
            client_id, use_mtls_endpoint_aliases: !!certificate, id_token_signed_response_alg: 'PS256',
        };
        const authentication = algorithm ? await byKey(algorithm) : oauth.TlsClientAuth();
        const options = by(certificate);
        if (client_id.includes('dpop')) {
            options.DPoP = oauth.DPoP(client, await newKey());
        }
        const { token, refreshed } = await signIn(fapi, client, authentication, options);
        assert.equal(refreshed.refresh_token ?? token.refresh_token, token.refresh_token);
        const url = certificate ? mtls_orders : orders;
        await call(token.access_token, url, options);
        await call(refreshed.access_token, url, options);
        await refused(call(token.access_token, url, by()), 'invalid_token');
    }
});
await check('FAPI 2.0, refused', async () => {
    const client = { client_id: 'daemon-dpop' };
    const options = { ...by(), DPoP: oauth.DPoP(client, await newKey()) };
    await grant(fapi, client, await byKey('EdDSA'), ORDERS, options);
    const key = await keyOf('EdDSA');
    const at = (audience) => oauth.PrivateKeyJwt(key, {
        [oauth.modifyAssertion](header, claims) {
            header.alg = 'EdDSA';
            claims.aud = audience;
        },
    });
    for (const audience of [fapi.token_endpoint, [fapi.issuer]]) {
        await refused(grant(fapi, client, at(audience), ORDERS, options), 'invalid_client');
    }
    await refused(grant(fapi, client, await byKey('EdDSA'), ORDERS, by()), 'invalid_grant');
});

console.log(passed, 'passed, 0 failed');
