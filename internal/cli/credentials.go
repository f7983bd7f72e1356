package cli

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/wrenn-dev/wrenn/client"
)

// KeyFileName is the name of the file with a server's own API key, in its data
// directory and, as a copy for one user, in that user's configuration.
const KeyFileName = "api-key"

// DefaultDataDir is where a server keeps its data unless it is told otherwise.
const DefaultDataDir = "/var/lib/wrenn"

// credentials are the API key of a command line and its source.
//
// Invariant: key is empty or from names its source.
type credentials struct {
	key  string
	from string
	// unreadable is a key file that exists but that this user may not read.
	unreadable string
}

// secretType is the type of flags whose values are never shown.
const secretType = "secret"

// refusedKey is the flag --api-key, with which every user could read the key in the
// process list.
type refusedKey struct{}

func (refusedKey) String() string { return "" }
func (refusedKey) Type() string   { return secretType }

func (refusedKey) Set(string) error {
	return errors.New("every user of this machine can read a key on the command line: use --api-key-file, or set WRENN_API_KEY")
}

// withoutSecret removes a refused secret from the error that quotes it.
func withoutSecret(err error) error {
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) && invalid.GetFlag().Value.Type() == secretType {
		return fmt.Errorf("--%s: %w", invalid.GetFlag().Name, invalid.Unwrap())
	}
	return err
}

// credentials returns the API key to use: that of --api-key-file, else of
// WRENN_API_KEY, else, for a server on this machine, the key in its data directory or
// this user's copy of it. A key that was not named is never sent to another
// machine.
func (a *App) credentials() (credentials, error) {
	if a.keyFile != "" {
		key, err := a.readKey(a.keyFile)
		if err != nil {
			return credentials{}, &Failure{Message: "the API key cannot be read: " + err.Error(),
				Hint: "name the file with --api-key-file or WRENN_API_KEY_FILE"}
		}
		return credentials{key: key, from: a.keyFile}, nil
	}
	if key := a.env("WRENN_API_KEY", ""); key != "" {
		return credentials{key: key, from: "WRENN_API_KEY"}, nil
	}
	var found credentials
	if !onThisMachine(a.serverURL()) {
		return found, nil
	}
	for _, path := range a.keyFiles() {
		key, err := a.readKey(path)
		switch {
		case err == nil:
			return credentials{key: key, from: path, unreadable: found.unreadable}, nil
		case errors.Is(err, fs.ErrPermission) && found.unreadable == "":
			found.unreadable = path
		}
	}
	return found, nil
}

// keyFiles returns the files in which a key is searched, in order.
func (a *App) keyFiles() []string {
	files := []string{filepath.Join(a.env("WRENN_DATA_DIR", DefaultDataDir), KeyFileName)}
	if own := a.ownKeyFile(); own != "" {
		files = append(files, own)
	}
	return files
}

// ownKeyFile returns the file of this user's copy of a server's key; "" without a
// home.
func (a *App) ownKeyFile() string {
	if dir := a.env("XDG_CONFIG_HOME", ""); filepath.IsAbs(dir) {
		return filepath.Join(dir, "wrenn", KeyFileName)
	}
	if home := a.env("HOME", ""); home != "" {
		return filepath.Join(home, ".config", "wrenn", KeyFileName)
	}
	return ""
}

// maxKeyFile is the size of the largest key file, in bytes.
const maxKeyFile = 4096

func (a *App) readKey(path string) (string, error) {
	raw, err := a.readFile(path)
	if err != nil {
		return "", err
	}
	key := strings.TrimSpace(string(raw))
	if key == "" || len(raw) > maxKeyFile || strings.ContainsAny(key, "\r\n") {
		return "", fmt.Errorf("%s does not hold one API key", path)
	}
	return key, nil
}

// keyHint returns the next step after a refused or missing key.
func (a *App) keyHint() string {
	found, err := a.credentials()
	switch {
	case err != nil:
		return ""
	case found.unreadable != "":
		return a.copyHint(found)
	case found.from != "":
		return "the key comes from " + found.from + "; create another with `wrenn key create NAME` on the server"
	case !onThisMachine(a.serverURL()):
		return "name the file with your key with --api-key-file, or set WRENN_API_KEY; keys found on this machine are not sent to others"
	default:
		return "name the file with your key with --api-key-file, or set WRENN_API_KEY; create one with `wrenn key create NAME` on the server"
	}
}

// copyHint is the hint for a user who may not read the server's own key.
func (a *App) copyHint(c credentials) string {
	own, stale := a.ownKeyFile(), ""
	if c.from != "" {
		stale = "the copy in " + c.from + " is not the server's key, and "
	}
	if own == "" {
		return stale + "only root may read " + c.unreadable + ": use sudo"
	}
	return fmt.Sprintf("%sonly root may read %s: use sudo, or take a copy: mkdir -p %s && sudo install -m 600 -o \"$USER\" %s %s",
		stale, c.unreadable, shellWord(filepath.Dir(own)), shellWord(c.unreadable), shellWord(own))
}

// shellWord writes s so that a shell reads it as one word.
func shellWord(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%=,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// serverURL returns the address of the server with a scheme. Without one it is https
// for another machine, because a key must not be sent in clear text.
func (a *App) serverURL() string {
	if a.url == "" || strings.Contains(a.url, "://") {
		return a.url
	}
	if local := "http://" + a.url; onThisMachine(local) {
		return local
	}
	return "https://" + a.url
}

// onThisMachine reports whether a URL names a loopback address without the
// help of DNS.
func onThisMachine(raw string) bool {
	if raw == "" {
		raw = client.DefaultURL
	}
	u, err := url.Parse(raw)
	if err != nil {
		return false
	}
	host := u.Hostname()
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// httpClient returns the HTTP client, nil for the default one. A problem with the file
// of authorities is the failure of the first request.
func (a *App) httpClient() *http.Client {
	if a.caFile == "" {
		return nil
	}
	raw, err := a.readFile(a.caFile)
	roots := x509.NewCertPool()
	if err == nil && !roots.AppendCertsFromPEM(raw) {
		err = fmt.Errorf("%s holds no certificate in PEM", a.caFile)
	}
	if err != nil {
		return failing(&Failure{Message: "the authorities cannot be read: " + err.Error(), Hint: "name the file with --ca-file or WRENN_CA_FILE"})
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	return &http.Client{Transport: transport}
}

// failing returns an HTTP client whose requests all fail with err.
func failing(err error) *http.Client { return &http.Client{Transport: failingTransport{err}} }

type failingTransport struct{ err error }

// RoundTrip implements http.RoundTripper.
func (f failingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
	return nil, f.err
}

// isCertificateProblem reports whether a server's certificate was refused.
func isCertificateProblem(err error) bool {
	var verify *tls.CertificateVerificationError
	return errors.As(err, &verify)
}
