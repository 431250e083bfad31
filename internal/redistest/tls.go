package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	caFile   = "ca.pem"
	certFile = "cert.pem"
	keyFile  = "key.pem"
)

// authority is a certificate authority for one test, with a certificate for the
// servers of 127.0.0.1.
type authority struct {
	pool  *x509.CertPool
	files map[string][]byte // PEM by name
}

// TLS makes servers use TLS only, also between each other. Servers that talk to
// each other must have the same option value.
func TLS() Option {
	certify := sync.OnceValues(newAuthority)
	return func(s *settings) {
		a, err := certify()
		if err != nil {
			s.t.Fatalf("making certificates: %v", err)
		}
		s.trust(a)
	}
}

func (s *settings) trust(a *authority) {
	s.authority = a
	s.lines = append(s.lines,
		"tls-cert-file "+certFile, "tls-key-file "+keyFile, "tls-ca-cert-file "+caFile,
		"tls-auth-clients no", "tls-replication yes", "tls-cluster yes")
}

// TLSConfig is what a client needs to trust the server, or nil without TLS.
func (s *Server) TLSConfig() *tls.Config {
	if s.authority == nil {
		return nil
	}
	return &tls.Config{RootCAs: s.authority.pool, MinVersion: tls.VersionTLS12}
}

// CAFile is the path of a PEM file with the certificate of the authority. Without
// TLS there is no such file.
func (s *Server) CAFile() string { return filepath.Join(s.dir, caFile) }

// write writes the files into a directory.
func (a *authority) write(dir string) error {
	for name, content := range a.files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func newAuthority() (*authority, error) {
	ca := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "redistest"},
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true,
		IsCA:                  true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		Subject:      pkix.Name{CommonName: "redis-server"},
		SerialNumber: big.NewInt(2),
		NotBefore:    ca.NotBefore,
		NotAfter:     ca.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	certDER, err := x509.CreateCertificate(rand.Reader, server, ca, &key.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	a := &authority{pool: x509.NewCertPool(), files: map[string][]byte{
		caFile:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}),
		certFile: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certDER}),
		keyFile:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}}
	if !a.pool.AppendCertsFromPEM(a.files[caFile]) {
		return nil, errors.New("the certificate of the authority is not one")
	}
	return a, nil
}
