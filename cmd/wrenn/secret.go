package main

import (
	"fmt"
	"io"
	"os"
)

// secretSetting is a secret from a file or an environment variable. A value on the
// command line is refused, because every user of the machine can read it in the
// process list.
type secretSetting struct {
	// name is the flag's, such as "token"; the file's is name + "-file".
	name string
	// variable holds the secret itself; empty is the usual name for the flag.
	variable string
	// description describes the secret in the help.
	description string

	// value is the secret, once validate has returned nil; empty if none was
	// given.
	value string
	file  string
}

// maxSecret bounds a file with a secret, in bytes.
const maxSecret = 64 << 10

func (s *secretSetting) flags(f flagSet) {
	f.Var((*refusedSecret)(s), s.name, "")
	f.secret(s.name)
	_ = f.MarkHidden(s.name)
	f.StringVar(&s.file, s.name+"-file", "", fmt.Sprintf("file with the %s; or set %s", s.description, s.environment()))
	if s.variable != "" {
		f.env(s.name, s.variable)
		f.env(s.name+"-file", s.variable+"_FILE")
	}
}

func (s *secretSetting) environment() string {
	if s.variable != "" {
		return s.variable
	}
	return variableName(s.name)
}

func (s *secretSetting) validate() error {
	if s.file == "" {
		return nil
	}
	if s.value != "" {
		return fmt.Errorf("use --%s-file or %s, not both", s.name, s.environment())
	}
	value, err := readSecret(s.file)
	if err != nil {
		return fmt.Errorf("--%s-file: %w", s.name, err)
	}
	s.value = value
	return nil
}

// readSecret returns the text of a file without the white space around it.
func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", err
	}
	value := trimLine(raw)
	if value == "" || len(raw) > maxSecret {
		return "", fmt.Errorf("%s is empty or larger than %d bytes", path, maxSecret)
	}
	return value, nil
}

// refusedSecret is the flag that must not be used.
type refusedSecret secretSetting

// String returns the secret; the log shows only whether there is one.
func (s *refusedSecret) String() string { return s.value }

// Type implements pflag.Value.
func (*refusedSecret) Type() string { return "secret" }

// Set refuses a value from the command line.
func (s *refusedSecret) Set(string) error {
	return fmt.Errorf("every user of this machine can read a secret on the command line: use --%s-file, or set %s",
		s.name, (*secretSetting)(s).environment())
}

// databaseURL is the setting of a PostgreSQL server, whose URL may hold a
// password.
func databaseURL(owner string) secretSetting {
	return secretSetting{name: "database-url", variable: "DATABASE_URL", description: "URL of the " + owner}
}
