// Makes tokens.json, the tokens that TestTokensOfJoseAreAccepted reads: one of
// each algorithm, made by the npm package "jose". They are kept here so that
// the tests need no Node. To make them anew, with other keys:
//
//	cd auth/testdata/jose && npm install --no-save jose@6.2.17 && node make.mjs
import { SignJWT, exportJWK, exportSPKI, generateKeyPair } from 'jose';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';

const algorithms = [
  'HS256', 'HS384', 'HS512', 'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA',
];
const tokens = [];
for (const alg of algorithms) {
  const kid = `jose-${alg}`;
  let secret, signing, key, jwk;
  if (alg.startsWith('HS')) {
    key = secret = randomBytes(32).toString('hex'); // as text, 64 bytes
    signing = new TextEncoder().encode(secret);
  } else {
    const pair = await generateKeyPair(alg, { extractable: true });
    signing = pair.privateKey;
    key = await exportSPKI(pair.publicKey);
    jwk = { ...await exportJWK(pair.publicKey), kid, alg, use: 'sig' };
  }
  const token = await new SignJWT({ evstream: { subscribe: ['orders/17/**'] }, roles: ['a', 'b'] })
    .setProtectedHeader({ alg, kid, typ: 'JWT' })
    .setSubject('alice')
    .setIssuer('https://app.example.com')
    .setAudience(['other', 'live'])
    .setJti(`id-${alg}`)
    .setIssuedAt(1763700000)
    .setExpirationTime(4102444800) // 2100
    .sign(signing);
  tokens.push({ alg, key, jwk, token });
}
writeFileSync('tokens.json', JSON.stringify(tokens, null, 1) + '\n');
