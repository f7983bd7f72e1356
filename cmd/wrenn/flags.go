package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/pflag"
)

// flagSet declares flags that environment variables can set too. A flag takes
// precedence over its variable, and the variable over the default.
type flagSet struct{ *pflag.FlagSet }

const (
	// envAnnotation holds the name of a flag's variable if it is not WRENN_ and the
	// flag's name.
	envAnnotation = "wrenn_env"
	// secretAnnotation marks a flag whose value is never shown.
	secretAnnotation = "wrenn_secret"
)

// env names the variable of a flag.
func (f flagSet) env(name, variable string) {
	_ = f.SetAnnotation(name, envAnnotation, []string{variable})
}

// secret marks a flag whose value is never shown.
func (f flagSet) secret(name string) {
	_ = f.SetAnnotation(name, secretAnnotation, nil)
}

// variableOf returns the name of a flag's variable.
func variableOf(f *pflag.Flag) string {
	if names := f.Annotations[envAnnotation]; len(names) == 1 {
		return names[0]
	}
	return variableName(f.Name)
}

// variableName is the usual name of a flag's variable.
func variableName(flag string) string {
	return "WRENN_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// readEnvironment sets the flags that were not given from their variables, unless
// these are unset or empty. It ignores flags of the root command.
func readEnvironment(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var first error
	flags.VisitAll(func(f *pflag.Flag) {
		if first != nil || f.Changed || !isServerFlag(f) {
			return
		}
		value, ok := lookup(variableOf(f))
		if !ok || value == "" {
			return
		}
		if secret, ok := f.Value.(*refusedSecret); ok {
			secret.value = value
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			first = fmt.Errorf("the environment variable %s: %w", variableOf(f), err)
		}
	})
	return first
}

func isServerFlag(f *pflag.Flag) bool {
	switch f.Name {
	case "url", "api-key", "api-key-file", "ca-file", "json", "help":
		return false
	default:
		return true
	}
}

// logConfiguration logs the value of every flag, without secrets.
func logConfiguration(log *slog.Logger, flags *pflag.FlagSet) {
	var attrs []any
	flags.VisitAll(func(f *pflag.Flag) {
		if isServerFlag(f) {
			attrs = append(attrs, strings.ReplaceAll(f.Name, "-", "_"), shown(f))
		}
	})
	log.Info("configuration", attrs...)
}

func shown(f *pflag.Flag) string {
	value := f.Value.String()
	if _, secret := f.Annotations[secretAnnotation]; !secret || value == "" {
		return value
	}
	return "(set)"
}
