package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// Sign makes a JSON Web Token of claims, for trying things out: a hub only verifies
// tokens. key is a secret of at least 32 bytes, or a private key as PEM. id is that of
// the key, or "".
func Sign(key, id string, claims map[string]any) (string, error) {
	algorithm, signing, err := signingKey(key)
	if err != nil {
		return "", err
	}
	options := new(jose.SignerOptions).WithType("JWT")
	if id != "" {
		options = options.WithHeader("kid", id)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: signing}, options)
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(body)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// signingKey reads a key, and finds the algorithm that is signed with.
func signingKey(text string) (jose.SignatureAlgorithm, any, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		if err := CheckKey(text); err != nil {
			return "", nil, err
		}
		return jose.HS256, []byte(text), nil
	}
	var key crypto.PrivateKey
	var err error
	switch {
	case block.Type == "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case block.Type == "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return "", nil, fmt.Errorf("it is a %s: tokens are signed with a private key, or with a secret", strings.ToLower(block.Type))
	}
	if err != nil {
		return "", nil, err
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return jose.RS256, k, nil
	case ed25519.PrivateKey:
		return jose.EdDSA, k, nil
	case *ecdsa.PrivateKey:
		switch k.Curve {
		case elliptic.P256():
			return jose.ES256, k, nil
		case elliptic.P384():
			return jose.ES384, k, nil
		case elliptic.P521():
			return jose.ES512, k, nil
		}
	}
	return "", nil, errors.New("a key of that kind signs no tokens: RSA, P-256, P-384, P-521 and Ed25519 do")
}
