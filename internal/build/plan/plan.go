// Package plan describes the build of a template: the stages with their bases, and the
// steps of each.
//
// A plan comes from a Dockerfile or from the steps of another dialect. The package
// templates carries it out and stores it with the build. The types are plain values,
// which JSON keeps unchanged; the package does no I/O and knows no dialect.
package plan

import "time"

// Bounds of a plan.
const (
	MaxStages = 32
	// MaxSteps is the most steps of all stages together.
	MaxSteps = 500
	// MaxText is the most bytes of one command, name or value.
	MaxText = 64 << 10
	// MaxVariables is the most variables of an environment, and MaxEnvironment the most
	// bytes of their names and values. They are those of a sandbox, which gets the environment.
	MaxVariables   = 256
	MaxEnvironment = 64 << 10
	// MaxSources is the most sources of a COPY, and MaxExcludes the most patterns that leave
	// out files.
	MaxSources  = 1000
	MaxExcludes = 100
	// DefaultStepTimeout and MaxStepTimeout bound one RUN step.
	DefaultStepTimeout = 30 * time.Minute
	MaxStepTimeout     = 6 * time.Hour
)

// Plan is the build of one template.
type Plan struct {
	// Stages are in the order of their dependencies: a stage names only earlier ones.
	// The last one becomes the template.
	Stages []Stage
	// Start is a shell command that is started at the end of the build and runs in the
	// template's snapshot; empty is none. It gets the environment of the last stage.
	Start string
	// Arguments are those of the last stage's CMD, if Start comes from it alone. A base image
	// with an ENTRYPOINT is started with them instead of Start, as in Docker.
	Arguments []string `json:",omitempty"`
	// Ready is a shell command that is repeated until it succeeds, then the snapshot is
	// taken. Empty with a Start waits 20 s.
	Ready string
	// ImageSettings applies user, working directory and start command of base images, as
	// Docker does. Otherwise only their environment is taken over.
	ImageSettings bool
	// GuestUser adds the implicit first step of E2B's builds to the last stage: the user
	// "user" exists with home and passwordless sudo, and is the current user.
	GuestUser bool
	// NoCache ignores earlier layers.
	NoCache bool
	// Notes are remarks about the text for the log, such as an instruction without effect.
	Notes []string `json:",omitempty"`
}

// Stage is a file system with the steps that make it.
type Stage struct {
	// Name is the stage's own, or empty.
	Name  string
	From  Base
	Steps []Step
}

// Base is the start of a stage. Exactly one field is set.
type Base struct {
	// Image is a reference to an image in a registry.
	Image string `json:",omitempty"`
	// Archive is the key of an uploaded OCI or Docker archive.
	Archive string `json:",omitempty"`
	// Template is a reference to a template, a built-in image or a snapshot.
	Template string `json:",omitempty"`
	// Stage is the position of an earlier stage, plus one.
	Stage int `json:",omitempty"`
	// Scratch is the empty file system.
	Scratch bool `json:",omitempty"`
}

// Step is one instruction. Exactly one of the pointers is set.
type Step struct {
	// ID names the step in logs and in the reason of a failure: its position among the
	// steps of the caller's text, from "1".
	ID string
	// Text is the instruction as its author wrote it, for logs.
	Text string
	// NoCache ignores earlier layers from this step on.
	NoCache bool `json:",omitempty"`
	// Deferred is set if the words of the step refer to variables that only the base
	// image defines. They are expanded as in a Dockerfile when the step is carried out.
	Deferred *Deferred `json:",omitempty"`

	Run     *Run     `json:",omitempty"`
	Copy    *Copy    `json:",omitempty"`
	Env     *Env     `json:",omitempty"`
	Workdir *Workdir `json:",omitempty"`
	User    *User    `json:",omitempty"`
}

// Deferred is the scope of words that are expanded later.
type Deferred struct {
	// Escape is the escape character of the text.
	Escape string
	// Args are the build arguments. Variables of the environment win over them.
	Args []Variable `json:",omitempty"`
}

// Run is a command in the guest. A status other than 0 fails the build.
type Run struct {
	// Argv is the program with its arguments, without expansion.
	Argv []string
	// Script is the content of an executable file that begins with "#!". It is run
	// instead of Argv.
	Script string `json:",omitempty"`
	// User replaces the current user for this step; empty keeps it.
	User string `json:",omitempty"`
	// Env is set for this step only, such as build arguments. It is part of the cache key.
	// Variables of the environment win over it.
	Env []Variable `json:",omitempty"`
	// Secrets are the secrets that the command can read.
	Secrets []Secret `json:",omitempty"`
	// Binds are files that exist during the step: each has one source, which is at Dest. A file
	// or directory that is there already is put aside until the step has ended.
	Binds []Copy `json:",omitempty"`
	// Scratch are directories that exist during the step (cache and tmpfs mounts). One that
	// the step has to make is removed after it; another one keeps its content.
	Scratch []string `json:",omitempty"`
	// Offline runs the command without a network.
	Offline bool          `json:",omitempty"`
	Timeout time.Duration `json:",omitempty"`
}

// Secret is a secret of the build that a step can read. It is in no layer.
type Secret struct {
	// ID is its name among the secrets of the build.
	ID string
	// Path is the file that holds it during the step, or empty.
	Path string `json:",omitempty"`
	// Variable is the environment variable that holds it, or empty.
	Variable string `json:",omitempty"`
	Required bool   `json:",omitempty"`
	// Mode are the permission bits of the file; 0 is 0400.
	Mode uint32 `json:",omitempty"`
}

// Copy puts files into the guest.
type Copy struct {
	// Context is the key of the uploaded archive (tar) from which the files come.
	Context string `json:",omitempty"`
	// Stage is the position of the earlier stage, plus one, from which they come, and Base the image or
	// template.
	Stage int   `json:",omitempty"`
	Base  *Base `json:",omitempty"`
	// Content are files that the text itself holds, by name.
	Content []Inline `json:",omitempty"`
	// Sources are paths or patterns below the root of the source. A directory's content
	// is merged into Dest; a file or link becomes Dest, or goes into it if it ends with
	// "/", is a directory, or there are several sources.
	Sources []string
	// Dest is relative to the working directory.
	Dest string
	// Owner is "user", "user:group", numbers, or empty: then CurrentUser decides.
	Owner string `json:",omitempty"`
	// CurrentUser gives the files to the current user, otherwise to root; files of
	// another stage keep their owners.
	CurrentUser bool `json:",omitempty"`
	// Mode are the permission bits of files and directories; nil keeps those of the source.
	Mode *uint32 `json:",omitempty"`
	// Unpack unpacks sources that are archives (tar, also compressed), as ADD does.
	Unpack bool `json:",omitempty"`
	// Exclude are patterns of names that are left out.
	Exclude []string `json:",omitempty"`
	// Parents keeps the directories above each source.
	Parents bool `json:",omitempty"`
}

// Inline is a file in a build's text.
type Inline struct {
	Name string
	Data string
	// Expand says that Data is one of the words that Step.Deferred is about.
	Expand bool `json:",omitempty"`
}

// Env sets variables for the steps that follow and for the start command. Values are
// expanded already, except for "$NAME" and "${NAME}" if Expand is set: then a backslash
// makes "$" and itself literal, and an unknown variable is empty.
type Env struct {
	Set    []Variable
	Expand bool `json:",omitempty"`
}

// Variable is a variable of the environment.
type Variable struct{ Name, Value string }

// Workdir makes a directory and changes to it. A relative path joins the current one.
type Workdir struct{ Path string }

// User changes the current user, "user[:group]".
type User struct {
	Name string
	// Create makes a user that does not exist.
	Create bool `json:",omitempty"`
}
