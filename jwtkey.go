package evstream

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

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

// looksPublic reports whether what would be taken for a secret is a public key
// in a form that is not read here. A token signed with it as a secret is one
// that everybody could make.
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
	// What is read from a file has lost a line's end, which may have been the
	// key's.
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
