package sandbox

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Defaults of a create request, as the REST contract gives them.
const (
	DefaultTemplate   = "minimal"
	DefaultVCPUs      = 1
	DefaultMemoryMB   = 512
	DefaultTimeoutSec = 300
	DefaultDiskMB     = 2048
)

// BuiltInTemplates returns the names of the templates that every host can build from
// Debian's packages, the default one first.
func BuiltInTemplates() []string {
	return []string{DefaultTemplate, "base", "code-interpreter-v1", "desktop"}
}

// Limits that apply on every host; a host may have tighter ones.
const (
	MaxVCPUs       = 64
	MinMemoryMB    = 128
	MaxMemoryMB    = 1 << 20
	MinDiskMB      = 256
	MaxDiskMB      = 1 << 20
	MaxTimeoutSec  = 30 * 24 * 60 * 60
	MaxEnvEntries  = 256
	MaxEnvBytes    = 64 << 10
	MaxTemplateLen = 63
	// MaxUserLen is the most bytes of a user's name.
	MaxUserLen = 256
)

// TimeoutAction is the action on a sandbox with an expired clock.
type TimeoutAction string

// The actions.
const (
	// TimeoutDestroy ends the sandbox. It is the default.
	TimeoutDestroy TimeoutAction = "destroy"
	// TimeoutPause pauses it.
	TimeoutPause TimeoutAction = "pause"
)

// Spec holds a user's settings for a new sandbox. Only its clocks
// (Timeout, Lifetime, OnTimeout) and AutoResume can be changed afterwards.
type Spec struct {
	// Template is the root image.
	Template string
	VCPUs    int
	MemoryMB int
	DiskMB   int
	// Timeout is the idle clock: the time without use after which OnTimeout is
	// carried out. Zero means never.
	Timeout time.Duration
	// Lifetime is the lifetime clock: the time after the last start (create,
	// resume) at which OnTimeout is carried out, even if the sandbox is in use.
	// Zero means never.
	Lifetime time.Duration
	// OnTimeout is the action when either clock expires.
	OnTimeout TimeoutAction
	// PauseDiskOnly makes the pause of OnTimeout one without memory. If that fails, the
	// pause keeps the memory.
	PauseDiskOnly bool
	// AutoResume makes commands and file operations resume the paused sandbox
	// first. Hosts ignore it.
	AutoResume bool
	// Env is set for every command. Values are secrets: never logged.
	Env map[string]string
	// Hostname is the guest's host name, one label of RFC 1123. Empty is the
	// default, see GuestHostname.
	Hostname string
	// MinIsolation is the weakest acceptable isolation.
	MinIsolation Isolation
	// Runtime is the runtime that the sandbox runs on. Empty is the choice of the
	// control plane, which fills it in before a host gets the spec.
	Runtime Runtime
	// PublicPorts are the TCP ports that everyone may reach; the others need the
	// traffic token. Hosts ignore them.
	PublicPorts []int
	// Egress limits the addresses that the sandbox can reach.
	Egress Egress
	// InitialLifetime is the Lifetime with which the sandbox was created or forked. It
	// stays when Lifetime changes. Hosts do not get it.
	InitialLifetime time.Duration
	// PublicTraffic makes every port public. Hosts ignore it.
	PublicTraffic bool
	// RequestHost, unless empty, is the Host header that programs get, with "${PORT}"
	// for the number of the port. Hosts ignore it.
	RequestHost string
	// HTTPSPorts are the TCP ports whose programs speak TLS themselves. Hosts ignore them.
	HTTPSPorts []int
	// TrafficKey is the secret from which TrafficToken and EnvdTokenOf come. Hosts do
	// not get it.
	TrafficKey string
	// EnvdToken is the access token of the guest's public server, as a host gets it:
	// the result of EnvdTokenOf. It is a secret, and empty in stored rows. Empty
	// leaves that server closed.
	EnvdToken string
	// TemplateID is the id of the template that the sandbox was created from, or of that
	// of its snapshot; empty is a root image. TemplateRef is the name that was given, with
	// a tag if one was. Hosts do not get them.
	TemplateID, TemplateRef string
	// User and Workdir are the user and the directory of commands that name none. Empty
	// is root, and the home of the user.
	User, Workdir string
}

// TemplateName returns the name by which users know the template of s.
func (s Spec) TemplateName() string { return cmp.Or(s.TemplateRef, s.Template) }

// Limits bound a Spec on a given host.
type Limits struct {
	MaxVCPUs    int
	MinMemoryMB int
	MaxMemoryMB int
}

var templateName = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`)

// ValidTemplateName reports whether s can name a template: lower-case letters,
// digits and, inside, dots, dashes and underscores; at most 63 characters; no
// two dots in a row.
func ValidTemplateName(s string) bool {
	return templateName.MatchString(s) && !strings.Contains(s, "..")
}

// WithDefaults returns s with every zero field that has a default filled in.
// A zero Timeout stays: it means never.
func (s Spec) WithDefaults() Spec {
	if s.Template == "" {
		s.Template = DefaultTemplate
	}
	if s.VCPUs == 0 {
		s.VCPUs = DefaultVCPUs
	}
	if s.MemoryMB == 0 {
		s.MemoryMB = DefaultMemoryMB
	}
	if s.DiskMB == 0 {
		s.DiskMB = DefaultDiskMB
	}
	if s.OnTimeout == "" {
		s.OnTimeout = TimeoutDestroy
	}
	return s
}

// Copied returns the spec of a copy of the sandbox (a fork): s without the
// fields that belong to one sandbox alone, and with env.
func (s Spec) Copied(env map[string]string) Spec {
	s.Env, s.Hostname, s.TrafficKey, s.EnvdToken = env, "", "", ""
	return s
}

// GuestHostname returns the host name of the sandbox id, whose spec is s.
func (s Spec) GuestHostname(id ID) string {
	return cmp.Or(s.Hostname, "wrenn-"+string(id))
}

// hostname is a label of RFC 1123, section 2.1, or empty.
var hostname = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)?$`)

// Validate checks s against the product's limits. The error is of kind
// Invalid and names the field and the range.
func (s Spec) Validate() error {
	switch {
	case !ValidTemplateName(s.Template):
		return fault.New(fault.Invalid, "invalid_template",
			"template must be a name of lower-case letters, digits, '.', '_' and '-', at most %d characters", MaxTemplateLen)
	case s.Timeout < 0 || s.Timeout > MaxTimeoutSec*time.Second:
		return fault.New(fault.Invalid, "invalid_timeout", "timeout_sec must be from 0 (never) to %d", MaxTimeoutSec)
	case s.Lifetime < 0 || s.Lifetime > MaxTimeoutSec*time.Second:
		return fault.New(fault.Invalid, "invalid_lifetime", "lifetime_sec must be from 0 (never) to %d", MaxTimeoutSec)
	case s.OnTimeout != TimeoutDestroy && s.OnTimeout != TimeoutPause:
		return fault.New(fault.Invalid, "invalid_on_timeout", "on_timeout must be %q or %q", TimeoutDestroy, TimeoutPause)
	case !hostname.MatchString(s.Hostname):
		return fault.New(fault.Invalid, "invalid_name",
			"hostname must be one label: letters, digits and, inside, '-', at most 63 characters")
	case s.DiskMB < MinDiskMB || s.DiskMB > MaxDiskMB:
		return fault.New(fault.Invalid, "invalid_disk", "disk_mb must be from %d to %d", MinDiskMB, MaxDiskMB)
	case s.MinIsolation != "" && !slices.Contains(Isolations(), s.MinIsolation):
		return fault.New(fault.Invalid, "invalid_isolation", "min_isolation must be %s", alternatives(Isolations()))
	case s.Runtime != "" && !slices.Contains(Runtimes(), s.Runtime):
		return fault.New(fault.Invalid, "invalid_runtime", "runtime must be \"auto\", %s", alternatives(Runtimes()))
	}
	if err := s.ValidateFor(Limits{MaxVCPUs: MaxVCPUs, MinMemoryMB: MinMemoryMB, MaxMemoryMB: MaxMemoryMB}); err != nil {
		return err
	}
	if err := validateTraffic(s); err != nil {
		return err
	}
	if err := s.Egress.validate(); err != nil {
		return err
	}
	if err := s.ValidateDefaults(); err != nil {
		return err
	}
	return ValidateEnv(s.Env)
}

// ValidateFor checks the sizes of s against l. The error names the range.
func (s Spec) ValidateFor(l Limits) error {
	if s.VCPUs < 1 || s.VCPUs > l.MaxVCPUs {
		return fault.New(fault.Invalid, "invalid_vcpus", "vcpus must be from 1 to %d", l.MaxVCPUs)
	}
	if s.MemoryMB < l.MinMemoryMB || s.MemoryMB > l.MaxMemoryMB {
		return fault.New(fault.Invalid, "invalid_memory", "memory_mb must be from %d to %d", l.MinMemoryMB, l.MaxMemoryMB)
	}
	return nil
}

// ValidateDefaults checks the user and the directory of commands that name none.
func (s Spec) ValidateDefaults() error {
	user, dir := s.User, s.Workdir
	if len(user) > MaxUserLen || !utf8.ValidString(user) || strings.ContainsFunc(user, unicode.IsControl) {
		return fault.New(fault.Invalid, "invalid_user",
			"a user must be UTF-8 without control characters, at most %d bytes", MaxUserLen)
	}
	if dir == "" {
		return nil
	}
	if strings.ContainsFunc(dir, unicode.IsControl) {
		return fault.New(fault.Invalid, "invalid_path", "the directory of commands must not hold control characters")
	}
	return ValidateGuestPath(dir)
}

// ValidateEnv checks the names, the number and the size of environment
// variables. Values may hold anything but NUL.
func ValidateEnv(env map[string]string) error {
	if len(env) > MaxEnvEntries {
		return fault.New(fault.Invalid, "invalid_env", "env may have at most %d entries", MaxEnvEntries)
	}
	total := 0
	for k, v := range env {
		if k == "" || strings.ContainsAny(k, "=\x00") || strings.Contains(v, "\x00") {
			return fault.New(fault.Invalid, "invalid_env", "env names must not be empty or hold '=' or NUL, values must not hold NUL")
		}
		total += len(k) + len(v)
	}
	if total > MaxEnvBytes {
		return fault.New(fault.Invalid, "invalid_env", "env may hold at most %d bytes", MaxEnvBytes)
	}
	return nil
}

// MaxPathLen is the longest path a guest takes (PATH_MAX of Linux, less NUL).
const MaxPathLen = 4095

// ValidateGuestPath checks that path names a file inside a guest absolutely.
func ValidateGuestPath(path string) error {
	switch {
	case path == "":
		return fault.New(fault.Invalid, "invalid_path", "path is required")
	case strings.ContainsRune(path, 0):
		return fault.New(fault.Invalid, "invalid_path", "path must not hold NUL")
	case !utf8.ValidString(path):
		return fault.New(fault.Invalid, "invalid_path",
			"path must be UTF-8; reach a file with another name by a command, such as sh -c 'cat \"$(printf \"/tmp/a\\377\")\"'")
	case path[0] != '/':
		return fault.New(fault.Invalid, "invalid_path", "path must be absolute: it must start with '/'")
	case len(path) > MaxPathLen:
		return fault.New(fault.Invalid, "invalid_path", "path may have at most %d bytes", MaxPathLen)
	}
	return nil
}
