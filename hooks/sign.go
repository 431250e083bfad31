package hooks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Secrets, and the headers of a request: https://www.standardwebhooks.com.

const (
	secretPrefix = "whsec_"
	minSecret    = 24 // bytes
	maxSecret    = 64
)

// ParseSecret reads a secret: "whsec_" and the base64 of 24 to 64 bytes. Errors do not
// quote it.
func ParseSecret(s string) ([]byte, error) {
	text, ok := strings.CutPrefix(s, secretPrefix)
	if !ok {
		return nil, fmt.Errorf("a secret begins with %q, and this one does not; make one with: echo %s$(openssl rand -base64 32)", secretPrefix, secretPrefix)
	}
	secret, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("a secret is %q and base64, and this one is not base64", secretPrefix)
	}
	if len(secret) < minSecret || len(secret) > maxSecret {
		return nil, fmt.Errorf("a secret has %d to %d bytes, and this one has %d", minSecret, maxSecret, len(secret))
	}
	return secret, nil
}

// signature is the value of the header webhook-signature: one signature for each
// secret.
func signature(secrets [][]byte, id string, at time.Time, body []byte) string {
	var b strings.Builder
	for i, secret := range secrets {
		if i > 0 {
			b.WriteByte(' ')
		}
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
		mac.Write(body)
		b.WriteString("v1,")
		b.WriteString(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return b.String()
}
