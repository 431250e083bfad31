package grip

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// MinKey is the shortest secret, in bytes. MinKey is low because what others call the
// default key, "changeme", is for a test on one host.
const MinKey = 8

// key signs tokens, and verifies those that others have signed with it: a secret with
// HS256, or a private key of the curve P-256 with ES256.
type key struct {
	secret []byte
	ec     *ecdsa.PrivateKey // nil for a secret
}

// CheckKey reports why a key cannot be used. It must not be a placeholder.
func CheckKey(text string) error {
	_, err := readKey(text)
	return err
}

// readKey reads a key as it stands in a configuration: a private key as PEM, "base64:" and
// that or its DER, or else a secret, which "base64:" may encode, too.
func readKey(text string) (*key, error) {
	content := []byte(text)
	if encoded, ok := strings.CutPrefix(strings.TrimSpace(text), "base64:"); ok {
		decoded, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return nil, errors.New("the key begins with base64: but what follows is not standard base64")
		}
		content = decoded
	}
	trimmed := bytes.TrimSpace(content)
	switch {
	case bytes.HasPrefix(trimmed, []byte("-----BEGIN")):
		return readPEM(trimmed)
	case bytes.HasPrefix(trimmed, []byte("{")) && bytes.Contains(trimmed, []byte(`"kty"`)):
		return nil, errors.New("the key is a JSON Web Key, which is not read here: write a secret, or a private key as PEM")
	}
	if private, err := x509.ParsePKCS8PrivateKey(content); err == nil {
		return ofCurve(private)
	}
	if private, err := x509.ParseECPrivateKey(content); err == nil {
		return ofCurve(private)
	}
	if _, err := x509.ParsePKIXPublicKey(content); err == nil {
		return nil, errPublicKey
	}
	if len(content) < MinKey {
		return nil, fmt.Errorf("the key has %d bytes, at least %d are needed", len(content), MinKey)
	}
	return &key{secret: content}, nil
}

var errPublicKey = errors.New("the key is a public key, which signs nothing: give the private key, and the public one to the application")

// readPEM reads the private key of a PEM text.
func readPEM(text []byte) (*key, error) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, errors.New("the key begins like PEM and cannot be read: its BEGIN and END need a line each")
		}
		if text = bytes.TrimSpace(rest); block.Type == "EC PARAMETERS" && len(text) > 0 {
			continue // what openssl writes before the key
		}
		if len(text) > 0 {
			return nil, errors.New("the key is more than one PEM block, or has text after it: one private key is allowed")
		}
		var private any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			private, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			private, err = x509.ParseECPrivateKey(block.Bytes)
		case "PUBLIC KEY", "CERTIFICATE", "RSA PUBLIC KEY":
			return nil, errPublicKey
		default:
			return nil, fmt.Errorf("the key is a PEM block of type %q; \"PRIVATE KEY\" and \"EC PRIVATE KEY\" are allowed", clip(block.Type))
		}
		if err != nil {
			return nil, fmt.Errorf("the key is a PEM block of type %q that cannot be read: %w", block.Type, err)
		}
		return ofCurve(private)
	}
}

func ofCurve(private any) (*key, error) {
	ec, ok := private.(*ecdsa.PrivateKey)
	switch {
	case !ok:
		return nil, errors.New("the key is a private key, but not one of an elliptic curve: P-256 is allowed, for ES256")
	case ec.Curve != elliptic.P256():
		return nil, fmt.Errorf("the key is one of the curve %s: P-256 is allowed, for ES256", ec.Params().Name)
	}
	return &key{ec: ec}, nil
}

// algorithm is the name of what the key signs with.
func (k *key) algorithm() string {
	if k.ec != nil {
		return "ES256"
	}
	return "HS256"
}

// half is the size of each of the two numbers of a signature of ES256, in bytes.
const half = 32

// sign returns the signature of a text.
func (k *key) sign(text string) []byte {
	if k.ec == nil {
		return mac(k.secret, text)
	}
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, k.ec, digest[:])
	if err != nil {
		panic(err) // a key that was read signs, and rand.Reader does not fail
	}
	signature := make([]byte, 2*half)
	r.FillBytes(signature[:half])
	s.FillBytes(signature[half:])
	return signature
}

// verifies reports whether a signature is that of a text.
func (k *key) verifies(text string, signature []byte) bool {
	if k.ec == nil {
		return hmac.Equal(signature, mac(k.secret, text))
	}
	if len(signature) != 2*half {
		return false
	}
	digest := sha256.Sum256([]byte(text))
	return ecdsa.Verify(&k.ec.PublicKey, digest[:], new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:]))
}

func mac(secret []byte, text string) []byte {
	h := hmac.New(sha256.New, secret)
	_, _ = h.Write([]byte(text))
	return h.Sum(nil)
}
