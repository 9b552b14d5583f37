// A `fetch` for oauth4webapi that trusts one CA, and presents a client's certificate if it has one.

import { Agent, request } from 'node:https';

export function fetchWith({ ca, pem }) {
    const agent = new Agent({ ca, cert: pem, key: pem });
    return (url, { method, headers, body, signal }) => new Promise((resolve, reject) => {
        const sent = request(url, { agent, method, headers, signal }, async (received) => {
            const chunks = await received.toArray();
            const { statusCode: status, rawHeaders } = received;
            const pairs = rawHeaders.flatMap((name, at) => (at % 2 ? [] : [[name, rawHeaders[at + 1]]]));
            resolve(new Response(chunks.length ? Buffer.concat(chunks) : null, { status, headers: pairs }));
        });
        sent.on('error', reject);
        sent.end(body instanceof URLSearchParams ? body.toString() : body);
    });
}
