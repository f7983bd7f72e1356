package templates

import (
	"strings"
	"unicode/utf8"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Reasons of faults about templates.
const (
	ReasonTemplateNotFound = "template_not_found"
	ReasonTemplateExists   = "template_exists"
	ReasonBuildNotFound    = "build_not_found"
	// ReasonBuildState: the status of the build forbids the operation.
	ReasonBuildState  = "build_state"
	ReasonTagNotFound = "tag_not_found"
	// ReasonPlan: the stored plan of a build cannot be read.
	ReasonPlan  = "build_plan_unreadable"
	ReasonQuota = "template_quota"
)

// Bounds of the rows that a Store keeps.
const (
	// MaxTemplates is the most templates of an installation.
	MaxTemplates = 10_000
	// MaxTags is the most tags of a template.
	MaxTags = 200
	// MaxUnended is the most builds that have not ended.
	MaxUnended = 500
	// KeptBuilds is the number of builds of a template that Expire leaves, beside those with
	// a snapshot.
	KeptBuilds = 100
	// MaxLogEntries and MaxLogBytes bound the log of a build. If one is passed, a last entry
	// with LogFull says so.
	MaxLogEntries = 10_000
	MaxLogBytes   = 4 << 20
	// MaxLogMessage is the most bytes of a message in a log or of a reason. The rest is cut off.
	MaxLogMessage = 8 << 10
	// maxLogStep is the most bytes of a step's ID in a log or in a reason.
	maxLogStep = 128
)

// LogFull is the message of the last entry of a log that reached a bound.
const LogFull = "the log has reached its largest size; the rest of it is left out"

// The reasons of builds that a Store or a Service fails without an attempt.
const (
	Unstarted  = "the build could not be started"
	Superseded = "another build of the template was started"
	Abandoned  = "the build was not started in time"
)

// NotFound is the fault of an id or name that no template has.
func NotFound(ref string) error {
	return fault.New(fault.NotFound, ReasonTemplateNotFound, "there is no template %q", ref)
}

// BuildNotFound is the fault of an id that no build has.
func BuildNotFound(id BuildID) error {
	return fault.New(fault.NotFound, ReasonBuildNotFound, "there is no build %q", string(id))
}

// WrongBuild is the fault of an operation that the status of build b forbids.
func WrongBuild(b Build, want BuildStatus) error {
	return fault.New(fault.WrongState, ReasonBuildState, "build %s is %s; it must be %s for this", b.ID, b.Status, want)
}

// NotOurs is the fault of a server that writes to build b, which has ended or is carried out by
// another server.
func NotOurs(b Build) error {
	return fault.New(fault.WrongState, ReasonBuildState, "build %s is %s, or another server carries it out", b.ID, b.Status)
}

// PlanUnreadable is the fault of a build whose stored plan does not decode, with the error of the
// decoder.
func PlanUnreadable(cause error) error {
	return fault.Wrap(cause, fault.Internal, ReasonPlan, "the stored plan of the build cannot be read; build again")
}

// TagNotFound is the fault of a tag that a template does not have.
func TagNotFound(name, tag string) error {
	return fault.New(fault.NotFound, ReasonTagNotFound, "the template %s has no tag %q", name, tag)
}

// SnapshotGone is the fault of a build whose snapshot has been removed.
func SnapshotGone(id BuildID) error {
	return fault.New(fault.WrongState, ReasonBuildState,
		"the snapshot of build %s has been removed because no tag named the build; build the template again", id)
}

// NameTaken is the fault of a new template with the name of another one.
func NameTaken() error {
	return fault.New(fault.Exists, ReasonTemplateExists, "there is a template with this name")
}

// QuotaUsed is the fault of a row beyond a bound. things are named in the plural.
func QuotaUsed(most int, things string) error {
	return fault.New(fault.Quota, ReasonQuota, "there are %d %s, which is as many as there may be; delete some", most, things)
}

// Storable returns e with fields that a Store can keep: valid UTF-8 without NUL within
// the bounds, and a level that is one of the four.
func (e LogEntry) Storable() LogEntry {
	e.Message, e.Step = storable(e.Message, MaxLogMessage), storable(e.Step, maxLogStep)
	switch e.Level {
	case "debug", "info", "warn", "error":
	default:
		e.Level = "info"
	}
	return e
}

// Storable is that of LogEntry.
func (r Reason) Storable() Reason {
	return Reason{Message: storable(r.Message, MaxLogMessage), Step: storable(r.Step, maxLogStep)}
}

// storable cuts s to at most n bytes of valid UTF-8 without NUL.
func storable(s string, n int) string {
	if len(s) > 4*n {
		s = s[:4*n]
	}
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// LogSize is the size of a build's log.
type LogSize struct {
	Entries, Bytes int64
	Full           bool
}

// Admit returns the entries of more that a log of size z takes, with their numbers and
// storable fields, and the new size.
func (z LogSize) Admit(more []LogEntry) ([]LogEntry, LogSize) {
	var out []LogEntry
	for _, e := range more {
		if z.Full {
			break
		}
		e = e.Storable()
		bytes := int64(len(e.Message) + len(e.Step))
		if z.Entries+1 >= MaxLogEntries || z.Bytes+bytes > MaxLogBytes-int64(len(LogFull)) {
			z.Full = true
			e.Level, e.Step, e.Message = "warn", "", LogFull
			bytes = int64(len(LogFull))
		}
		z.Entries, z.Bytes = z.Entries+1, z.Bytes+bytes
		e.Seq = z.Entries
		out = append(out, e)
	}
	return out, z
}
