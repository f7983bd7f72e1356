package rest

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Bounds of a BuildTemplateRequest, beside that of its body.
const (
	maxBuildArgs      = 256
	maxBuildSecrets   = 64
	maxRegistries     = 16
	maxTarget         = 128
	maxImageReference = 1024
)

// buildRequest is a BuildTemplateRequest in the domain's terms.
type buildRequest struct {
	build      templates.NewBuild
	dockerfile templates.Dockerfile
	inputs     templates.Inputs
}

// buildFields are the fields of a BuildTemplateRequest before they are checked.
type buildFields struct {
	text                    *string
	context                 string
	secrets                 map[string]string
	encoding, runtime       string
	vcpus, memoryMB, diskMB *int
	stepTimeout             *int
	from                    *plan.Base
	logins                  map[string]templates.Credentials
}

// readBuild reads a BuildTemplateRequest.
func readBuild(w http.ResponseWriter, r *http.Request) (buildRequest, error) {
	var out buildRequest
	var f buildFields
	err := readJSON(w, r, fields{
		"dockerfile": &f.text, "context": &f.context, "target": &out.dockerfile.Target,
		"build_args": &out.dockerfile.Args, "secrets": &f.secrets, "secrets_encoding": &f.encoding,
		"registries": f.readLogins, "from": f.readFrom,
		"start_command": &out.dockerfile.Start, "ready_command": &out.dockerfile.Ready, "no_cache": &out.dockerfile.NoCache,
		"step_timeout_sec": &f.stepTimeout, "tags": &out.build.Tags, "vcpus": &f.vcpus, "memory_mb": &f.memoryMB, "disk_mb": &f.diskMB, "runtime": &f.runtime,
	})
	if err != nil {
		return out, err
	}
	out.inputs.Registries = f.logins
	if out.inputs.Secrets, err = f.decodeSecrets(); err != nil {
		return out, err
	}
	return out, cmp.Or(f.source(&out.dockerfile), f.limit(&out.dockerfile), f.shape(&out.build), checkTexts(out.dockerfile), checkTags(out.build.Tags))
}

func invalidBuild(format string, args ...any) error {
	return fault.New(fault.Invalid, "invalid_build", format, args...)
}

// source sets the text, the context and the base of d.
func (f *buildFields) source(d *templates.Dockerfile) error {
	switch {
	case f.text == nil && f.from == nil:
		return invalidBuild("dockerfile or from is required")
	case f.text != nil && !strings.ContainsFunc(*f.text, func(r rune) bool { return r > ' ' && r < 0x7f }):
		return invalidBuild("dockerfile has no instruction; leave it out to build from the base alone")
	case f.context != "" && !digest.MatchString(f.context):
		return fault.New(fault.Invalid, "invalid_digest", "context must be the SHA-256 of an upload, in 64 hexadecimal digits of lower case")
	}
	if f.text != nil {
		d.Text = *f.text
	}
	if f.from != nil {
		d.From = *f.from
	}
	d.Context = f.context
	return nil
}

// limit sets the time limit of the steps.
func (f *buildFields) limit(d *templates.Dockerfile) error {
	const most = int(plan.MaxStepTimeout / time.Second)
	if f.stepTimeout == nil {
		return nil
	}
	if *f.stepTimeout < 1 || *f.stepTimeout > most {
		return fault.New(fault.Invalid, "invalid_timeout", "step_timeout_sec must be from 1 to %d", most)
	}
	d.StepTimeout = time.Duration(*f.stepTimeout) * time.Second
	return nil
}

// shape sets the sizes and the runtime of n. Hosts have bounds of their own.
func (f *buildFields) shape(n *templates.NewBuild) error {
	for _, size := range []struct {
		given     *int
		dst       *int
		low, high int
		refused   error
	}{
		{f.vcpus, &n.VCPUs, 1, sandbox.MaxVCPUs, fault.New(fault.Invalid, "invalid_vcpus", "vcpus must be from 1 to %d", sandbox.MaxVCPUs)},
		{
			f.memoryMB, &n.MemoryMB, sandbox.MinMemoryMB, sandbox.MaxMemoryMB,
			fault.New(fault.Invalid, "invalid_memory", "memory_mb must be from %d to %d", sandbox.MinMemoryMB, sandbox.MaxMemoryMB),
		},
		{
			f.diskMB, &n.DiskMB, sandbox.MinDiskMB, sandbox.MaxDiskMB,
			fault.New(fault.Invalid, "invalid_disk", "disk_mb must be from %d to %d", sandbox.MinDiskMB, sandbox.MaxDiskMB),
		},
	} {
		if size.given == nil {
			continue
		}
		if *size.given < size.low || *size.given > size.high {
			return size.refused
		}
		*size.dst = *size.given
	}
	if f.runtime == "" || f.runtime == autoRuntime {
		return nil
	}
	n.Runtime = sandbox.Runtime(f.runtime)
	if !slices.Contains(sandbox.Runtimes(), n.Runtime) {
		return fault.New(fault.Invalid, "invalid_runtime", "runtime must be auto, microvm or gvisor")
	}
	return nil
}

var (
	argName    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	secretName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	serverName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$`)
)

// checkTexts checks the parts of d that a Dockerfile's reader does not see.
func checkTexts(d templates.Dockerfile) error {
	for name, text := range map[string]string{
		"dockerfile": d.Text, "target": d.Target, "start_command": d.Start, "ready_command": d.Ready,
	} {
		if strings.Contains(text, "\x00") {
			return invalidBuild("%s holds NUL", name)
		}
	}
	switch {
	case utf8.RuneCountInString(d.Target) > maxTarget:
		return invalidBuild("target may have at most %d characters", maxTarget)
	case len(d.Start) > plan.MaxText || len(d.Ready) > plan.MaxText:
		return invalidBuild("start_command and ready_command may have at most %d bytes", plan.MaxText)
	case len(d.Args) > maxBuildArgs:
		return invalidBuild("build_args may have at most %d entries", maxBuildArgs)
	}
	for name, value := range d.Args {
		if !argName.MatchString(name) || len(name) > maxTarget {
			return invalidBuild("build_args: %.64q is not a name of letters, digits and '_'", name)
		}
		if strings.Contains(value, "\x00") || len(value) > plan.MaxText {
			return invalidBuild("build_args.%s holds NUL or more than %d bytes", name, plan.MaxText)
		}
	}
	return nil
}

func checkTags(tags []string) error {
	if len(tags) > templates.MaxBuildTags {
		return fault.New(fault.Invalid, "invalid_tag", "a build may get at most %d tags", templates.MaxBuildTags)
	}
	for _, tag := range tags {
		if !templates.ValidTag(tag) {
			return fault.New(fault.Invalid, "invalid_tag", "%.64q is not a tag: %s", tag, tagRule)
		}
	}
	return nil
}

// decodeSecrets returns the secrets as bytes.
func (f *buildFields) decodeSecrets() (map[string][]byte, error) {
	if len(f.secrets) > maxBuildSecrets {
		return nil, invalidBuild("secrets may have at most %d entries", maxBuildSecrets)
	}
	if f.encoding != "" && f.encoding != "utf-8" && f.encoding != "base64" {
		return nil, invalidBuild("secrets_encoding must be utf-8 or base64")
	}
	var out map[string][]byte
	for id, value := range f.secrets {
		if !secretName.MatchString(id) {
			return nil, invalidBuild("secrets: %.64q is not an id of letters, digits, '.', '_' and '-'", id)
		}
		data := []byte(value)
		if f.encoding == "base64" {
			var err error
			if data, err = base64.StdEncoding.DecodeString(value); err != nil {
				return nil, invalidBuild("secrets.%s is not base64", id) // without the value
			}
		}
		if out == nil {
			out = make(map[string][]byte)
		}
		out[id] = data
	}
	return out, nil
}

// readFrom reads a TemplateBase.
func (f *buildFields) readFrom(name string, raw json.RawMessage) error {
	var image, template, archive *string
	if err := decodeNested(name, raw, fields{"image": &image, "template": &template, "archive": &archive}); err != nil {
		return err
	}
	f.from = &plan.Base{}
	given := 0
	for _, field := range []struct {
		value *string
		dst   *string
		valid func(string) bool
		rule  string
	}{
		{image, &f.from.Image, validImage, "image must be a reference such as debian:13 or ghcr.io/owner/name@sha256:…"},
		{template, &f.from.Template, validTemplateReference, "template must be NAME or NAME:TAG"},
		{archive, &f.from.Archive, digest.MatchString, "archive must be the SHA-256 of an upload, in 64 hexadecimal digits of lower case"},
	} {
		if field.value == nil {
			continue
		}
		if given++; !field.valid(*field.value) {
			return invalidBuild("%s.%s", name, field.rule)
		}
		*field.dst = *field.value
	}
	if given != 1 {
		return invalidBuild("from must have one of image, template and archive")
	}
	return nil
}

// validImage bounds a reference; its grammar is known where images are pulled.
func validImage(s string) bool {
	return s != "" && len(s) <= maxImageReference && !strings.ContainsFunc(s, func(c rune) bool { return c < '!' || c > '~' })
}

// maxTemplateReference bounds a reference, in bytes: a namespace, a name, and a tag or the
// id of a build.
const maxTemplateReference = 256

// validTemplateReference reports whether s can name a template in a query or a body.
func validTemplateReference(s string) bool {
	if namespace, _, given := strings.Cut(s, "/"); given && !sandbox.ValidTemplateName(namespace) {
		return false
	}
	_, err := templates.ParseReference(s)
	return err == nil && len(s) <= maxTemplateReference
}

// readLogins reads an array of RegistryLogins.
func (f *buildFields) readLogins(name string, raw json.RawMessage) error {
	var elems []json.RawMessage
	if raw[0] != '[' || json.Unmarshal(raw, &elems) != nil {
		return wrongType(name, "an array of objects")
	}
	if len(elems) > maxRegistries {
		return invalidBuild("registries may have at most %d entries", maxRegistries)
	}
	f.logins = make(map[string]templates.Credentials, len(elems))
	for _, raw := range elems {
		var server string
		var c templates.Credentials
		if err := decodeNested(name, raw, fields{"server": &server, "username": &c.Username, "password": &c.Password}); err != nil {
			return err
		}
		if len(server) > 255 || !serverName.MatchString(server) {
			return invalidBuild("registries: %.64q is not the host name of a registry", server)
		}
		if c.Username == "" || len(c.Username) > 1024 || c.Password == "" || len(c.Password) > plan.MaxText {
			return invalidBuild("registries: %s needs a username and a password", server)
		}
		if _, twice := f.logins[server]; twice {
			return invalidBuild("registries: %s is given twice", server)
		}
		f.logins[server] = c
	}
	return nil
}

// decodeNested decodes an object within a body as strictly as decodeObject.
func decodeNested(name string, raw json.RawMessage, f fields) error {
	if raw[0] != '{' {
		return wrongType(name, "an object")
	}
	return walkObject(json.NewDecoder(bytes.NewReader(raw)), name, name+".", func(field string, raw json.RawMessage) error {
		dst, known := f[field]
		if !known {
			return fault.New(fault.Invalid, "unknown_field", "unknown field %q", name+"."+field)
		}
		return decodeField(name+"."+field, raw, dst)
	})
}
