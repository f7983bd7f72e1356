// Package dockerfile reads Dockerfiles: it turns their text into a plan.Plan.
//
// The syntax is that of BuildKit, whose parser it uses. The package does no I/O and knows
// neither base images nor contexts: words that refer to variables of a base image stay
// unexpanded in the plan, and [ExpandStep] expands them when the build has reached them.
//
// # Instructions
//
//   - FROM takes an image, an earlier stage, scratch, or template:NAME[:TAG]. The platform is
//     linux/amd64.
//   - RUN takes both forms, here-documents, --mount of the types bind, secret, cache and tmpfs,
//     and --network. An ssh mount is refused. The content of a cache is not kept for the next
//     build.
//   - COPY and ADD take --from (a stage, an image or template:NAME), --chown, an octal --chmod,
//     --exclude, --parents, --link (without effect) and here-documents. ADD unpacks archives,
//     and refuses URLs and repositories.
//   - ENV, ARG, WORKDIR, USER and SHELL are as in Docker.
//   - ENTRYPOINT and CMD become the start command, and the command of HEALTHCHECK becomes the
//     ready command.
//   - EXPOSE, LABEL, MAINTAINER, ONBUILD, STOPSIGNAL and VOLUME have no effect, which a note says.
//
// The work of a Parse is bounded: by checkLines for BuildKit's parser, and by a budget for the
// expansion of variables, which the lexer of this package does by BuildKit's rules.
//
// Every error is Invalid invalid_dockerfile and begins with "Dockerfile:LINE:".
package dockerfile

import (
	"github.com/wrenn-dev/wrenn/internal/build/plan"
)

// MaxText is the largest size of a Dockerfile in bytes.
const MaxText = 1 << 20

// Options are the settings of a build beside its text.
type Options struct {
	// Context is the key of the uploaded archive; empty is none.
	Context string
	// Target is the name or number of the stage that becomes the template; empty is the
	// last.
	Target string
	// Args are the build arguments.
	Args map[string]string
	// Start and Ready replace the commands of the text.
	Start, Ready string
	NoCache      bool
}

// Reason is the reason of every error of this package.
const Reason = "invalid_dockerfile"

// templatePrefix marks a base that is a template instead of an image.
const templatePrefix = "template:"

// baseOf returns the base that a reference names, which is no stage.
func baseOf(ref string) plan.Base {
	switch {
	case ref == "scratch":
		return plan.Base{Scratch: true}
	case len(ref) > len(templatePrefix) && ref[:len(templatePrefix)] == templatePrefix:
		return plan.Base{Template: ref[len(templatePrefix):]}
	}
	return plan.Base{Image: ref}
}
