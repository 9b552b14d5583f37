// Two more issuers of npm's oidc-provider, whose tokens are bound to a key: `/bound` for mTLS, DPoP,
// pushed authorization requests, introspection and token exchange one by one, and `/fapi` for the
// FAPI 2.0 profile. And an API at `/orders`, whose tokens npm's oauth4webapi validates.

import { X509Certificate, createHash, generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { SignJWT, createLocalJWKSet, decodeJwt, importJWK, jwtVerify } from 'jose';
import * as oauth from 'oauth4webapi';
import { Provider, errors } from 'oidc-provider';

const ORDERS = 'https://orders.example';

// Tokens for this API are opaque: the API introspects them.
const PARCELS = 'https://parcels.example';

const RESOURCES = {
    [ORDERS]: { scope: 'orders.read orders.write', accessTokenFormat: 'jwt' },
    [PARCELS]: { scope: 'parcels.read', accessTokenFormat: 'opaque' },
};

const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const EXCHANGED = [
    'subject_token', 'subject_token_type', 'actor_token', 'actor_token_type', 'requested_token_type',
    'audience', 'resource', 'scope',
];

const REDIRECT_URI = 'https://app.example/signed-in';

// FAPI 2.0 section 5.4.
const FAPI_ALGORITHMS = ['PS256', 'ES256', 'EdDSA'];
const ALGORITHMS = [...FAPI_ALGORITHMS, 'ES384', 'RS256'];

// `base` is the address of the listener that everyone uses, `mtls` of the listener that alone takes
// certificates of clients, and `api` of the API's. Calls of the API are noted in `seen`. Returns the handlers by path, and a description for the tests.
export function boundIssuers({ base, mtls, api, folder, watch, seen }) {
    const certificate = (name) => join(folder, 'bound', `${name}.pem`);
    const secret = 'bound-s3cret';
    const onMtls = (socket) => socket.localPort === Number(new URL(mtls).port);
    const certificateOf = (socket) => (onMtls(socket) ? socket.getPeerX509Certificate() : undefined);
    const keys = {};

    const provider = (name, { clients, features, ...configuration }) => {
        const issuer = `${base}/${name}`;
        keys[issuer] = signingKeys(name);
        const provider = new Provider(issuer, {
            clients,
            responseTypes: ['code'],
            pkce: { required: () => true },
            jwks: { keys: keys[issuer].secret },
            scopes: ['openid', 'offline_access', 'email'],
            claims: { email: ['email'] },
            discovery: {
                mtls_endpoint_aliases: Object.fromEntries(Object.entries({
                    token_endpoint: 'token',
                    pushed_authorization_request_endpoint: 'request',
                    introspection_endpoint: 'token/introspection',
                    userinfo_endpoint: 'me',
                }).map(([endpoint, path]) => [endpoint, `${mtls}/${name}/${path}`])),
            },
            features: {
                clientCredentials: { enabled: true },
                devInteractions: { enabled: true },
                introspection: { enabled: true },
                pushedAuthorizationRequests: { enabled: true },
                dPoP: {
                    enabled: true,
                    nonceSecret: randomBytes(32),
                    requireNonce: ({ oidc }) =>
                        oidc.route === 'userinfo' || needsNonce(oidc.client?.clientId),
                },
                mTLS: {
                    enabled: true,
                    certificateBoundAccessTokens: true,
                    selfSignedTlsClientAuth: true,
                    tlsClientAuth: true,
                    getCertificate: ({ socket }) => certificateOf(socket),
                    certificateAuthorized: ({ socket }) => socket.authorized,
                    certificateSubjectMatches: ({ socket }, property, expected) =>
                        property === 'tls_client_auth_subject_dn'
                        && distinguishedName(certificateOf(socket)) === expected,
                },
                resourceIndicators: {
                    enabled: true,
                    defaultResource: () => undefined,
                    // Without `resource` at the token endpoint, the one of the authorization request.
                    useGrantedResource: () => true,
                    getResourceServerInfo(_context, resource) {
                        if (!(resource in RESOURCES)) {
                            throw new errors.InvalidTarget();
                        }
                        return { audience: resource, accessTokenTTL: 600, ...RESOURCES[resource] };
                    },
                },
                ...features,
            },
            ...configuration,
        });
        watch(provider);
        return provider;
    };

    const needsNonce = (client_id) => client_id?.endsWith('nonce');
    const daemon = { grant_types: ['client_credentials'], redirect_uris: [], response_types: [] };
    const web = {
        grant_types: ['authorization_code', 'refresh_token'],
        redirect_uris: [REDIRECT_URI],
        response_types: ['code'],
    };
    const byKey = (algorithm) => ({
        token_endpoint_auth_method: 'private_key_jwt',
        token_endpoint_auth_signing_alg: algorithm,
        jwks: { keys: [publicKey(certificate(algorithm))] },
    });
    const byTls = {
        token_endpoint_auth_method: 'tls_client_auth',
        tls_client_auth_subject_dn: 'CN=tls.example,O=Contoso',
    };
    const bySecret = { token_endpoint_auth_method: 'client_secret_basic', client_secret: secret };
    const toCertificate = { tls_client_certificate_bound_access_tokens: true };
    const toProofKey = { dpop_bound_access_tokens: true };

    const bound = provider('bound', {
        clientAuthMethods: [
            'client_secret_basic', 'private_key_jwt', 'tls_client_auth', 'self_signed_tls_client_auth',
        ],
        enabledJWA: { clientAuthSigningAlgValues: ALGORITHMS, dPoPSigningAlgValues: ALGORITHMS },
        clients: [
            { client_id: 'tls', ...daemon, ...byTls, ...toCertificate },
            {
                client_id: 'self-signed',
                ...daemon,
                ...toCertificate,
                token_endpoint_auth_method: 'self_signed_tls_client_auth',
                jwks: { keys: ['self_signed', 'self_signed_next'].map(certificate).map(withChain) },
            },
            { client_id: 'secret-tls', ...daemon, ...bySecret, ...toCertificate },
            { client_id: 'tls-unbound', ...daemon, ...byTls },
            { client_id: 'dpop', ...daemon, ...bySecret, ...toProofKey },
            { client_id: 'dpop-nonce', ...daemon, ...byKey('ES256'), ...toProofKey },
            ...ALGORITHMS.map((algorithm) => ({
                client_id: algorithm.toLowerCase(), ...daemon, ...byKey(algorithm),
            })),
            {
                client_id: 'par',
                ...web,
                ...byKey('ES256'),
                require_pushed_authorization_requests: true,
            },
            { client_id: 'par-dpop-nonce', ...web, ...byKey('ES384'), ...toProofKey },
            { client_id: 'web', ...web, ...bySecret },
            { client_id: 'parcels', ...daemon, ...bySecret },
            { client_id: 'gateway', ...daemon, ...bySecret, grant_types: [TOKEN_EXCHANGE] },
        ],
    });
    // oidc-provider authenticates the client, and has no such grant itself.
    const exchanged = exchange(bound.issuer, keys[bound.issuer]);
    bound.registerGrantType(TOKEN_EXCHANGE, exchanged, EXCHANGED, ['audience', 'resource']);
    const fapi = provider('fapi', {
        clientAuthMethods: ['private_key_jwt', 'tls_client_auth', 'self_signed_tls_client_auth'],
        enabledJWA: {
            clientAuthSigningAlgValues: FAPI_ALGORITHMS,
            dPoPSigningAlgValues: FAPI_ALGORITHMS,
            idTokenSigningAlgValues: FAPI_ALGORITHMS,
        },
        clientDefaults: { id_token_signed_response_alg: 'PS256' },
        // FAPI 2.0 section 5.3.2.1: no rotation.
        rotateRefreshToken: false,
        features: {
            fapi: { enabled: true, profile: '2.0' },
            pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: true },
        },
        clients: [
            { client_id: 'key-dpop', ...web, ...byKey('PS256'), ...toProofKey },
            { client_id: 'key-dpop-nonce', ...web, ...byKey('ES256'), ...toProofKey },
            { client_id: 'key-tls', ...web, ...byKey('ES256'), ...toCertificate },
            { client_id: 'tls-tls', ...web, ...byTls, ...toCertificate },
            { client_id: 'tls-dpop', ...web, ...byTls, ...toProofKey },
            { client_id: 'daemon-dpop', ...daemon, ...byKey('EdDSA'), ...toProofKey },
        ].map((client) => ({ id_token_signed_response_alg: 'PS256', ...client })),
    });

    const certificates = Object.fromEntries([
        'tls', 'tls_next', 'stranger', 'self_signed', 'self_signed_next', 'unregistered', ...ALGORITHMS,
    ].map((name) => [name, certificate(name)]));
    return {
        answers: {
            bound: bound.callback(),
            fapi: fapi.callback(),
            orders: protect(keys, certificateOf, seen),
        },
        description: {
            bound: { issuer: `${base}/bound`, secret },
            fapi: { issuer: `${base}/fapi` },
            redirect_uri: REDIRECT_URI,
            orders: `${api}/orders`,
            mtls_orders: `${mtls}/orders`,
            certificates,
        },
    };
}

// Returns the handler of the token exchange (RFC 8693): for an access token of the issuer, one in the
// name of the same subject, with the client as the actor.
function exchange(issuer, { secret, public: published }) {
    return async (context) => {
        const { client, params } = context.oidc;
        if (params.subject_token_type !== ACCESS_TOKEN || !params.subject_token) {
            throw new errors.InvalidRequest('subject_token_type');
        }
        const verified = jwtVerify(params.subject_token, createLocalJWKSet({ keys: published }), { issuer });
        const { payload: { sub, act } } = await verified.catch(({ code }) => {
            throw new errors.InvalidRequest(`subject_token: ${code}`);
        });
        const audience = [params.resource ?? [], params.audience ?? []].flat();
        if (audience.some((audience) => ![ORDERS, PARCELS, 'orders'].includes(audience))) {
            throw new errors.InvalidTarget();
        }
        const [key] = secret;
        const claims = { client_id: client.clientId, scope: params.scope, act: { sub: client.clientId, act } };
        const token = new SignJWT(claims)
            .setProtectedHeader({ alg: key.alg, kid: key.kid, typ: 'at+jwt' })
            .setIssuer(issuer).setSubject(sub).setAudience(audience)
            .setIssuedAt().setExpirationTime('10 minutes').setJti(randomUUID());
        context.body = {
            access_token: await token.sign(await importJWK(key)),
            issued_token_type: ACCESS_TOKEN,
            token_type: 'Bearer',
            expires_in: 600,
            scope: params.scope,
        };
    };
}

// Returns the API, which takes tokens of the issuers in `keys`, and nonces of its own: each once, and
// with every response the next.
function protect(keys, certificateOf, seen) {
    const nonces = new Set();
    const used = new Set();
    return async (request, response) => {
        const { headers, method, socket } = request;
        const url = new URL(request.originalUrl, `https://${headers.host}`);
        const nonce = randomUUID();
        nonces.add(nonce);
        response.setHeader('DPoP-Nonce', nonce);
        const note = { user_agent: headers['user-agent'], url: url.href, form: [] };
        seen.push(note);
        const refuse = (error, error_description) => {
            note.refused = `${error}: ${error_description}`;
            const scheme = headers.dpop ? 'DPoP' : 'Bearer';
            response.setHeader('WWW-Authenticate', `${scheme} error="${error}"`);
            response.writeHead(401).end(JSON.stringify({ error, error_description }));
        };
        try {
            const [scheme, token] = (headers.authorization ?? '').split(' ');
            const { iss, cnf } = decodeJwt(token);
            if (headers.dpop) {
                const proof = decodeJwt(headers.dpop);
                if (!nonces.delete(proof.nonce)) {
                    return refuse('use_dpop_nonce', proof.nonce ? 'used or unknown' : 'none');
                }
                if (used.has(proof.jti)) {
                    return refuse('invalid_dpop_proof', 'used');
                }
                used.add(proof.jti);
            }
            const certificate = thumbprint(certificateOf(socket)?.raw);
            if (cnf?.['x5t#S256']) {
                // oauth4webapi knows DPoP alone.
                await jwtVerify(token, createLocalJWKSet({ keys: keys[iss].public }), {
                    issuer: iss, audience: ORDERS, typ: 'at+jwt',
                });
                if (cnf['x5t#S256'] !== certificate) {
                    return refuse('invalid_token', `certificate: ${certificate}`);
                }
            } else {
                const server = { issuer: iss, jwks_uri: `${iss}/jwks` };
                await oauth.validateJwtAccessToken(server, new Request(url, { headers, method }), ORDERS, {
                    [oauth.jwksCache]: { jwks: { keys: keys[iss].public }, uat: Math.floor(Date.now() / 1000) },
                });
            }
            response.end(JSON.stringify({ scheme, cnf, certificate, nonce: headers.dpop && decodeJwt(headers.dpop).nonce }));
        } catch ({ code, message }) {
            refuse('invalid_token', `${code}: ${message}`);
        }
    };
}

function signingKeys(name) {
    const generated = {
        PS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
        RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
        ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    };
    const jwks = (half) => Object.entries(generated).map(([alg, pair]) =>
        ({ ...pair[half].export({ format: 'jwk' }), kid: `${name} ${alg}`, alg, use: 'sig' }));
    return { secret: jwks('privateKey'), public: jwks('publicKey') };
}

// RFC 4514 has the last first.
function distinguishedName({ subject }) {
    return subject.split('\n').reverse().join(',');
}

function publicKey(pem) {
    return new X509Certificate(readFileSync(pem)).publicKey.export({ format: 'jwk' });
}

// RFC 8705 section 2.2.2: the certificate is registered in `x5c`.
function withChain(pem) {
    const certificate = new X509Certificate(readFileSync(pem));
    return { ...publicKey(pem), x5c: [certificate.raw.toString('base64')] };
}

export function thumbprint(der) {
    return der && createHash('sha256').update(der).digest('base64url');
}
