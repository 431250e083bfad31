package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// readKey reads a key as it stands in a configuration: a public key or a
// certificate as PEM, a JSON Web Key, or else a secret.
func readKey(text string) (any, error) {
	trimmed := strings.TrimSpace(text)
	switch {
	case strings.HasPrefix(trimmed, "-----BEGIN"):
		return readPEM(trimmed)
	case strings.HasPrefix(trimmed, "{"):
		var key jose.JSONWebKey
		if err := key.UnmarshalJSON([]byte(trimmed)); err != nil {
			return nil, errors.New("it begins like a JSON Web Key and is none; a set of them is read with jwks, from a URL")
		}
		if _, secret := key.Key.([]byte); !secret && !key.IsPublic() {
			return nil, errPrivateKey
		}
		return key.Key, nil
	case looksPublic(trimmed):
		return nil, errors.New("it looks like a public key, which as a secret would be known to everybody; write it as PEM, with its BEGIN and END lines")
	case trimmed != text:
		return nil, errors.New("the secret begins or ends with white space")
	}
	return []byte(text), nil
}

var errPrivateKey = errors.New("it is a private key, which is not needed to verify: give the public key")

// algorithmsOf returns what a key may be used with, by its type and strength.
func algorithmsOf(key any) ([]jose.SignatureAlgorithm, error) {
	switch k := key.(type) {
	case []byte:
		var fits []jose.SignatureAlgorithm
		for _, a := range []struct {
			name  jose.SignatureAlgorithm
			least int
		}{{jose.HS256, 32}, {jose.HS384, 48}, {jose.HS512, 64}} {
			if len(k) >= a.least {
				fits = append(fits, a.name)
			}
		}
		if fits == nil {
			return nil, fmt.Errorf("the secret has %d bytes, at least 32 are needed", len(k))
		}
		return fits, nil
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < 2048 || bits > 8192 {
			return nil, fmt.Errorf("the RSA key has %d bits, 2048 to 8192 are accepted", bits)
		}
		return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return []jose.SignatureAlgorithm{jose.ES256}, nil
		case elliptic.P384():
			return []jose.SignatureAlgorithm{jose.ES384}, nil
		case elliptic.P521():
			return []jose.SignatureAlgorithm{jose.ES512}, nil
		}
		return nil, errors.New("the key is of another curve than P-256, P-384 and P-521")
	case ed25519.PublicKey:
		return []jose.SignatureAlgorithm{jose.EdDSA}, nil
	}
	return nil, fmt.Errorf("a key of type %T verifies no token", key)
}

// algorithmNames are those that can be configured.
var algorithmNames = []jose.SignatureAlgorithm{
	jose.HS256, jose.HS384, jose.HS512, jose.RS256, jose.RS384, jose.RS512,
	jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// symmetric reports whether an algorithm verifies with the secret that it signs with.
func symmetric(a jose.SignatureAlgorithm) bool { return strings.HasPrefix(string(a), "HS") }

// readPEM reads the one block of a PEM text.
func readPEM(text string) (any, error) {
	block, rest := pem.Decode([]byte(text))
	switch {
	case block == nil:
		return nil, errors.New("it begins like PEM and cannot be read")
	case strings.TrimSpace(string(rest)) != "":
		return nil, errors.New("more than one PEM block, or text after it: give each key on its own")
	case strings.Contains(block.Type, "PRIVATE KEY"):
		return nil, errPrivateKey
	}
	var key any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var certificate *x509.Certificate
		if certificate, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = certificate.PublicKey
		}
	default:
		return nil, fmt.Errorf("a PEM block of type %q has no key to verify with", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a PEM block of type %q: %w", block.Type, err)
	}
	switch key.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
		return key, nil
	}
	return nil, fmt.Errorf("a key of type %T verifies no token", key)
}

// looksPublic reports whether text is a public key in a form that is not read here.
// As a secret, it would let everybody sign tokens.
func looksPublic(text string) bool {
	for _, prefix := range []string{"ssh-", "ecdsa-sha2-", "sk-ssh-", "MII"} {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		der = []byte(text)
	}
	// A text that was read from a file has lost the end of its last line, and those
	// bytes may have been part of the key.
	return slices.ContainsFunc([]string{"", "\n", "\r\n"}, func(end string) bool { return isPublic(slices.Concat(der, []byte(end))) })
}

// isPublic reports whether der is a public key or a certificate.
func isPublic(der []byte) bool {
	if _, err := x509.ParsePKIXPublicKey(der); err == nil {
		return true
	}
	if _, err := x509.ParsePKCS1PublicKey(der); err == nil {
		return true
	}
	_, err := x509.ParseCertificate(der)
	return err == nil
}
