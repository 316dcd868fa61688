// The lab's own certificates and keys. Nothing in them outlives the lab.
package up

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const validity = 10 * 365 * 24 * time.Hour

type authority struct {
	dir         string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

type pair struct {
	certificate, key         []byte // PEM
	certificateFile, keyFile string
}

// newAuthority makes a CA in dir: ca.crt and ca.key.
func newAuthority(dir string) (*authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	a := &authority{dir: dir}
	template := newTemplate("kubelab")
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	made, key, err := a.sign("ca", template)
	if err != nil {
		return nil, err
	}
	a.key, a.pem = key, made.certificate
	block, _ := pem.Decode(made.certificate)
	a.certificate, err = x509.ParseCertificate(block.Bytes)
	return a, err
}

// server makes a certificate for those names and addresses.
func (a *authority) server(file string, names []string, addresses []net.IP) (pair, error) {
	template := newTemplate(file)
	template.DNSNames, template.IPAddresses = names, addresses
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	made, _, err := a.sign(file, template)
	return made, err
}

// client makes a certificate that Kubernetes reads as a user in groups.
func (a *authority) client(file, user string, groups ...string) (pair, error) {
	template := newTemplate(user)
	template.Subject.Organization = groups
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	made, _, err := a.sign(file, template)
	return made, err
}

// keys makes the key that signs tokens of ServiceAccounts, and the public half that checks them.
func (a *authority) keys(file string) (private, public string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	private, public = filepath.Join(a.dir, file+".key"), filepath.Join(a.dir, file+".pub")
	if _, err := writeKey(private, key); err != nil {
		return "", "", err
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return "", "", err
	}
	return private, public, os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600)
}

func newTemplate(name string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // the kernel has no randomness
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(validity),
	}
}

// sign makes a key and its certificate. A CA has no certificate yet when it signs its own.
func (a *authority) sign(file string, template *x509.Certificate) (pair, *ecdsa.PrivateKey, error) {
	made := pair{
		certificateFile: filepath.Join(a.dir, file+".crt"),
		keyFile:         filepath.Join(a.dir, file+".key"),
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return made, nil, err
	}
	parent, parentKey := a.certificate, a.key
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		return made, nil, err
	}
	made.certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(made.certificateFile, made.certificate, 0o600); err != nil {
		return made, nil, err
	}
	made.key, err = writeKey(made.keyFile, key)
	return made, key, err
}

func writeKey(file string, key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	return text, os.WriteFile(file, text, 0o600)
}
