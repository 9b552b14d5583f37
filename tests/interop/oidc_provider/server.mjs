// Serves npm's oidc-provider over TLS, as two issuers that have nothing in common but the port, and
// what npm's jose has to say of other issuers' tokens. bound.mjs has two more issuers.
//
// Usage: node server.mjs FOLDER. Certificates go into the folder. When it is ready it prints one
// line of JSON, which tests/it/npm_oidc_provider.rs reads, and it ends when its standard input does.

import { execFileSync } from 'node:child_process';
import { X509Certificate, createHash, generateKeyPairSync } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { join, resolve } from 'node:path';

import { createRemoteJWKSet, jwtVerify } from 'jose';
import { Provider, errors } from 'oidc-provider';

import { boundIssuers, thumbprint } from './bound.mjs';

const RESOURCES = {
    'https://orders.example': 'orders.read orders.write',
    'https://invoices.example': 'invoices.read',
};

// What each says it supports, its application's secret, and who may sign with what.
const TENANTS = {
    one: {
        authentication: 'client_secret_post',
        secret: 'plain-s3cret',
        algorithms: ['PS256', 'RS256', 'ES256'],
    },
    two: {
        authentication: 'client_secret_basic',
        // Each of these changes, or is lost, where an encoding is forgotten (RFC 6749 appendix B).
        secret: 's3cret:+%/ &=?#"\\~%3A',
        algorithms: ['RS256', 'ES256'],
    },
};

// An application whose tokens are bound to its TLS certificate (RFC 8705 section 3).
const BOUND = { client_id: 'bound' };

const WEB = { client_id: 'web', redirect_uri: 'https://app.example/signed-in' };

process.stdin.on('end', () => process.exit()).resume();

const folder = resolve(process.argv[2]);
execFileSync('bash', [join(import.meta.dirname, 'certificates.sh'), folder]);
const file = (name) => readFileSync(join(folder, name));

const seen = [];
const answers = new Map();
// Certificates of clients are asked for, and checked by oidc-provider alone.
const tls = {
    cert: file('server.pem'),
    key: file('server.key'),
    requestCert: true,
    rejectUnauthorized: false,
};
const answer = (request, response) => {
    const [, tenant] = request.url.split(/[/?]/);
    if (request.url === '/requests') {
        response.end(JSON.stringify(seen));
    } else if (request.url === '/judge') {
        judge(request).then((judgement) => response.end(JSON.stringify(judgement)));
    } else if (answers.has(tenant)) {
        // So oidc-provider knows where it is mounted.
        request.originalUrl = request.url;
        request.url = request.url.slice(`/${tenant}`.length);
        answers.get(tenant)(request, response);
    } else {
        response.writeHead(404).end();
    }
};
const base = await listen(createServer(tls, answer));
// The addresses of `mtls_endpoint_aliases`. It knows whose CA's certificate it is.
const mtls = await listen(createServer({ ...tls, ca: file('ca.pem') }, answer));
// The API, which has nonces of its own.
const api = await listen(createServer(tls, answer));

async function listen(server) {
    await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
    return `https://127.0.0.1:${server.address().port}`;
}

const description = {
    ca: join(folder, 'ca.pem'),
    requests: `${base}/requests`,
    judge: `${base}/judge`,
};
for (const [name, { authentication, secret, algorithms }] of Object.entries(TENANTS)) {
    const issuer = `${base}/${name}`;
    const client_id = `daemon: ${name}+1`;
    const signers = algorithms.map((algorithm) => ({
        algorithm,
        client_id: algorithm.toLowerCase(),
        pem: join(folder, name, `${algorithm}.pem`),
    }));
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    // With it a test signs tokens that have one flaw and no other.
    const key = join(folder, name, 'issuer.key');
    writeFileSync(key, privateKey.export({ format: 'pem', type: 'pkcs8' }));
    const provider = new Provider(issuer, {
        clientAuthMethods: [authentication, 'private_key_jwt'],
        enabledJWA: { clientAuthSigningAlgValues: algorithms },
        clients: [
            application(client_id, {
                token_endpoint_auth_method: authentication,
                client_secret: secret,
            }),
            {
                client_id: WEB.client_id,
                token_endpoint_auth_method: authentication,
                client_secret: secret,
                grant_types: ['authorization_code', 'refresh_token'],
                redirect_uris: [WEB.redirect_uri],
                response_types: ['code'],
            },
            application(BOUND.client_id, {
                token_endpoint_auth_method: authentication,
                client_secret: secret,
                tls_client_certificate_bound_access_tokens: true,
            }),
            ...signers.map((signer) => application(signer.client_id, {
                token_endpoint_auth_method: 'private_key_jwt',
                token_endpoint_auth_signing_alg: signer.algorithm,
                jwks: { keys: [publicKey(signer.pem)] },
            })),
        ],
        jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid: name, alg: 'RS256', use: 'sig' }] },
        responseTypes: ['code'],
        pkce: { required: () => true },
        rotateRefreshToken: true,
        features: {
            clientCredentials: { enabled: true },
            dPoP: { enabled: true },
            mTLS: {
                enabled: true,
                certificateBoundAccessTokens: true,
                getCertificate: ({ socket }) => socket.getPeerX509Certificate(),
            },
            // Pages on which whoever comes is who they say.
            devInteractions: { enabled: true },
            resourceIndicators: {
                enabled: true,
                defaultResource: () => undefined,
                getResourceServerInfo(_context, resource) {
                    if (!(resource in RESOURCES)) {
                        throw new errors.InvalidTarget();
                    }
                    return {
                        audience: resource,
                        scope: RESOURCES[resource],
                        accessTokenFormat: 'jwt',
                        accessTokenTTL: 600,
                    };
                },
            },
        },
    });
    watch(provider);
    answers.set(name, provider.callback());
    description[name] = { issuer, client_id, secret, signers, web: WEB, bound: BOUND.client_id, key };
}
const { answers: handlers, description: bound } = boundIssuers({ base, mtls, api, folder, watch, seen });
Object.entries(handlers).forEach(([path, handler]) => answers.set(path, handler));
console.log(JSON.stringify({ ...description, bound_issuers: bound }));

function application(client_id, credential) {
    return {
        client_id,
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
        ...credential,
    };
}

function publicKey(pem) {
    return new X509Certificate(readFileSync(pem)).publicKey.export({ format: 'jwk' });
}

// What jose makes of a token, by the keys that are published where it says.
async function judge(request) {
    let body = '';
    for await (const part of request) {
        body += part;
    }
    const { token, keys, ...expected } = JSON.parse(body);
    try {
        const { payload, protectedHeader } =
            await jwtVerify(token, createRemoteJWKSet(new URL(keys)), expected);
        return { payload, header: protectedHeader };
    } catch ({ code, message }) {
        return { refused: code ?? message };
    }
}

function watch(provider) {
    provider.use(record);
    for (const event of ['grant', 'pushed_authorization_request', 'introspection', 'userinfo']) {
        provider.on(`${event}.error`, ({ state }, error) => {
            state.refused = error.error_detail ?? error.error_description;
        });
    }
}

// How a client proved its identity, by its User-Agent, and why that was not taken: oidc-provider
// tells the client no more than "client authentication failed".
async function record(context, next) {
    await next();
    const { req, headers, oidc, state } = context;
    seen.push({
        user_agent: headers['user-agent'],
        url: `https://127.0.0.1:${req.socket.localPort}${req.originalUrl}`,
        status: context.status,
        authorization: headers.authorization?.split(' ')[0],
        form: Object.keys(oidc?.body ?? {}),
        refresh_token: fingerprint(oidc?.body?.refresh_token),
        certificate: thumbprint(req.socket.getPeerX509Certificate()?.raw),
        proof: headers.dpop,
        refused: state.refused,
    });
}

function fingerprint(secret) {
    return secret && createHash('sha256').update(secret).digest('hex');
}
