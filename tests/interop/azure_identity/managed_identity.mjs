// npm's @azure/identity gets tokens from a LocalManagedIdentity.
//
// Usage: managed_identity.mjs OUTPUT, the file with the output of `cargo run --example
// local_managed_identity -- KIND`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { argv, env } from "node:process";

const output = readFileSync(argv[2], "utf8");
for (const name of Object.keys(env)) {
    // Variables of this machine must not select another source or a proxy.
    if (/^(IDENTITY_|MSI_|IMDS_|AZURE_)|_proxy$/i.test(name)) delete env[name];
}
for (const [, name, value] of output.matchAll(/^export (\w+)=(.*)$/gm)) env[name] = value;
const printed = (label) => new RegExp(`^# ${label} (.*)$`, "m").exec(output)[1];

// The library may read the variables while it is loaded.
const { ManagedIdentityCredential } = await import("@azure/identity");
const resource = "https://vault.azure.net";
let passed = 0;

async function check(credential, clientId) {
    const { token, expiresOnTimestamp } = await credential.getToken(`${resource}/.default`);
    const claims = JSON.parse(Buffer.from(token.split(".")[1], "base64url"));
    assert.equal(claims.azp, clientId);
    assert.equal(claims.aud, resource);
    assert.equal(claims.iss, printed("issuer"));
    // The end of the token, as the endpoint spelled it.
    assert.ok(Math.abs(claims.exp * 1000 - expiresOnTimestamp) < 10_000, `${expiresOnTimestamp}`);
    passed += 1;
}

await check(new ManagedIdentityCredential(), printed("system-assigned"));
const clientId = printed("user-assigned client_id");
await check(new ManagedIdentityCredential({ clientId }), clientId);
const objectId = printed("user-assigned object_id");
await check(new ManagedIdentityCredential({ objectId }), clientId);
const resourceId = printed("user-assigned resource_id");
await check(new ManagedIdentityCredential({ resourceId }), clientId);

const unassigned = new ManagedIdentityCredential({ clientId: "00000000-0000-0000-0000-000000000001" });
await assert.rejects(unassigned.getToken(`${resource}/.default`));
passed += 1;
console.log(`${passed} checks of @azure/identity passed`);
