package e2b

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// buildStart is the schema TemplateBuildStartV2.
type buildStart struct {
	FromImage    string        `json:"fromImage"`
	FromTemplate string        `json:"fromTemplate"`
	Registry     *registryJSON `json:"fromImageRegistry"`
	Force        bool          `json:"force"`
	Steps        []stepJSON    `json:"steps"`
	StartCmd     string        `json:"startCmd"`
	ReadyCmd     string        `json:"readyCmd"`
}

// registryJSON is the schema FromImageRegistry, as far as it is supported.
type registryJSON struct {
	Type     string `json:"type"`
	Username string `json:"username"`
	Password string `json:"password"`
}

// maxCredential bounds a user name and a password, in bytes.
const maxCredential = 16 << 10

// The standard user and directory of sandboxes.
const (
	guestUser = "user"
	guestHome = "/home/user"
)

// startBuild carries out the steps of a build. Its credentials are passed on, and never
// kept or logged.
func (s *server) startBuild(w http.ResponseWriter, r *http.Request) error {
	b, err := s.buildOf(r)
	if err != nil {
		return err
	}
	var in buildStart
	if err := readJSON(w, r, &in); err != nil {
		return err
	}
	p, err := s.planOf(r, in)
	if err != nil {
		return err
	}
	inputs, err := in.Registry.inputs()
	if err != nil {
		return err
	}
	if err := s.Templates.Start(r.Context(), b.ID, p, inputs); err != nil {
		return err
	}
	// Clients take an answer for empty only if it says so.
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// planOf returns the plan of a build.
func (s *server) planOf(r *http.Request, in buildStart) (p plan.Plan, err error) {
	p = plan.Plan{Start: in.StartCmd, Ready: in.ReadyCmd, NoCache: in.Force, GuestUser: !startsAsRoot(r)}
	if problem := textProblem(in.StartCmd, in.ReadyCmd); problem != "" {
		return p, invalid("startCmd and readyCmd: %s", problem)
	}
	var stage plan.Stage
	if stage.Steps, err = stepsOf(in.Steps); err != nil {
		return p, err
	}
	if stage.From, err = s.baseOf(r.Context(), in); err != nil {
		return p, err
	}
	if !p.GuestUser {
		stage.Steps = append(stage.Steps,
			plan.Step{ID: "finalize", Text: "USER " + guestUser, User: &plan.User{Name: guestUser, Create: true}},
			plan.Step{ID: "finalize", Text: "WORKDIR " + guestHome, Workdir: &plan.Workdir{Path: guestHome}})
	}
	p.Stages = []plan.Stage{stage}
	return p, nil
}

// baseOf returns the start of a build.
func (s *server) baseOf(ctx context.Context, in buildStart) (plan.Base, error) {
	switch {
	case (in.FromImage == "") == (in.FromTemplate == ""):
		return plan.Base{}, invalid("give one of fromImage and fromTemplate")
	case in.Registry != nil && in.FromImage == "":
		return plan.Base{}, invalid("fromImageRegistry can be given only with fromImage")
	case in.FromImage != "" && (len(in.FromImage) > 512 || strings.ContainsFunc(in.FromImage, func(c rune) bool { return c <= ' ' || c > '~' })):
		return plan.Base{}, invalid("fromImage must be a reference to an image such as python:3.13, at most 512 characters")
	case in.FromImage != "":
		return plan.Base{Image: in.FromImage}, nil
	}
	src, err := s.resolve(ctx, in.FromTemplate)
	switch {
	case err != nil:
		return plan.Base{}, err
	case src.isBuilt():
		return plan.Base{Template: src.reference()}, nil
	case src.snapshot != "":
		return plan.Base{Template: string(src.snapshot)}, nil
	default:
		return plan.Base{Template: src.image}, nil
	}
}

// inputs returns the credentials.
func (in *registryJSON) inputs() (out templates.Inputs, err error) {
	switch {
	case in == nil:
		return out, nil
	case in.Type != "registry":
		return out, invalid(`credentials of a cloud's registry are not supported: give fromImageRegistry with the type "registry", a username and a password`)
	case in.Username == "" || in.Password == "" || len(in.Username) > maxCredential || len(in.Password) > maxCredential:
		return out, invalid("fromImageRegistry has a username and a password, of at most %d bytes", maxCredential)
	}
	out.Registry = templates.Credentials{Username: in.Username, Password: in.Password}
	return out, nil
}

// UnmarshalJSON implements json.Unmarshaler. Its errors quote nothing of the text.
func (in *registryJSON) UnmarshalJSON(text []byte) error {
	type plain registryJSON
	if err := json.Unmarshal(text, (*plain)(in)); err != nil {
		return &json.UnmarshalTypeError{Field: "fromImageRegistry", Value: "value of this form"}
	}
	return nil
}

// buildID is the grammar of a build's id.
var buildID = regexp.MustCompile(`^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$`)

func noBuild(template, build string) error {
	const most = 128
	return refuse(http.StatusNotFound, "", "template '%.*s' has no build '%.*s'", most, template, most, build)
}

// buildOf returns the build of r's path, which has to be one of the template of the path.
func (s *server) buildOf(r *http.Request) (templates.Build, error) {
	template, id := strings.ToLower(param(r, "id")), strings.ToLower(param(r, "build"))
	missing := noBuild(template, id)
	if !buildID.MatchString(id) {
		return templates.Build{}, missing
	}
	b, err := s.Templates.GetBuild(r.Context(), templates.BuildID(id))
	if fault.Is(err, fault.NotFound) {
		err = missing
	}
	if err != nil || template == string(b.Template) {
		return b, err
	}
	src, err := s.builtByName(r.Context(), template)
	switch {
	case fault.Is(err, fault.NotFound):
		return b, missing
	case err == nil && src.built.ID != b.Template:
		return b, missing
	default:
		return b, err
	}
}
