package cli

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
	"github.com/wrenn-dev/wrenn/internal/build/dockerfile"
)

// buildFlags are the flags of `wrenn template build`.
type buildFlags struct {
	file, from, name, target, runtime string
	start, ready                      string
	tags, secrets                     []string
	args                              pairsFlag
	noCache, quiet, detach, noAuth    bool
	stepTimeout                       time.Duration
	cpus                              int
	memory, disk                      sizeFlag
	registryUser                      string
	registryPassword                  bool
}

// maxDockerfile is the largest Dockerfile and maxSecret the largest secret, in bytes.
const maxDockerfile, maxSecret = 1 << 20, 512 << 10

func (a *App) templateBuildCmd() *cobra.Command {
	var f buildFlags
	f.args.lookup = a.io.LookupEnv
	cmd := &cobra.Command{
		Use:   "build [flags] --name NAME[:TAG] [DIR]",
		Short: "Build a template from a Dockerfile, an image or another template",
		Long: "Build a template and print the id of the build. DIR is the context from which COPY and ADD take files, without those that\n" +
			"its .dockerignore names; it is sent only if the Dockerfile uses it and the server does not have it yet. The build runs on the\n" +
			"server, and continues if this command is interrupted.\n\n" +
			"--from is a template, an image, or oci-archive:FILE. A name that is no template is an image; template:NAME and\n" +
			"image:REFERENCE leave no doubt. With a Dockerfile it replaces the base of the last stage.\n\n" +
			"The credentials that Docker keeps (`docker login`) for the registries of the images that the build pulls are sent to\n" +
			"the server for this build, unless --no-registry-auth is given.",
		Example: "  wrenn template build --name web:v1 .\n" +
			"  wrenn template build --name db --from postgres:17 --start 'docker-entrypoint.sh postgres' --ready pg_isready\n" +
			"  wrenn template build --name app --secret id=token,env=TOKEN --build-arg VERSION=2 -f app.Dockerfile .",
		Args: args(0, 1, "a directory"),
	}
	f.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		dir := ""
		if len(argv) > 0 {
			dir = argv[0]
		}
		return a.templateBuild(cmd, f, dir)
	}
	return cmd
}

func (f *buildFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.name, "name", "", "name of the template, with a tag or without")
	flags.StringVarP(&f.file, "file", "f", "", "the Dockerfile, - for the standard input (DIR/Dockerfile)")
	flags.StringVar(&f.from, "from", "", "base: a template, an image or oci-archive:FILE")
	flags.StringSliceVarP(&f.tags, "tag", "t", nil, "tag of the build, may be repeated (default)")
	flags.Var(&f.args, "build-arg", "value of an ARG; NAME alone copies the value from here")
	flags.StringArrayVar(&f.secrets, "secret", nil, "secret for RUN --mount=type=secret: id=ID,src=FILE or id=ID,env=VARIABLE, may be repeated")
	flags.StringVar(&f.target, "target", "", "stage that becomes the template (the last)")
	flags.BoolVar(&f.noCache, "no-cache", false, "carry out every step again")
	DurationVar(flags, &f.stepTimeout, "step-timeout", 0, "end the build if the command of a RUN takes longer, at most 6h (the server's default is 30m)")
	flags.IntVar(&f.cpus, "cpus", 0, "virtual CPUs of the template's sandboxes (the server's default is 2)")
	flags.IntVar(&f.cpus, "vcpus", 0, "")
	_ = flags.MarkHidden("vcpus") // the name in the API
	flags.Var(&f.memory, "memory", "memory of the template's sandboxes: 512 (MiB), 512M or 2G (the server's default is 1G)")
	flags.Var(&f.disk, "disk", "writable disk of the template's sandboxes: 2048 (MiB), 2048M or 2G (the server's default is 2G)")
	flags.StringVar(&f.runtime, "runtime", "", "runtime: auto, microvm or gvisor (the server's default is auto)")
	flags.StringVar(&f.start, "start", "", "shell command that runs in every sandbox of the template, in place of CMD and ENTRYPOINT")
	flags.StringVar(&f.ready, "ready", "", "shell command that succeeds when the template is ready to be taken")
	flags.StringVar(&f.registryUser, "registry-user", "", "user of the registry of the image")
	flags.BoolVar(&f.registryPassword, "registry-password-stdin", false, "read the password of --registry-user from the standard input")
	flags.BoolVar(&f.noAuth, "no-registry-auth", false, "do not send the credentials that Docker keeps")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "print only the id of the build")
	flags.BoolVarP(&f.detach, "detach", "d", false, "do not wait for the end of the build")
}

// templateBuild builds a template and waits for it.
func (a *App) templateBuild(cmd *cobra.Command, f buildFlags, dir string) error {
	ctx := cmd.Context()
	name, tag, _ := strings.Cut(f.name, ":")
	if name == "" {
		return usagef(cmd, "--name is required")
	}
	req := client.BuildRequest{
		Target: f.target, BuildArgs: f.args.values, NoCache: f.noCache, Runtime: f.runtime, VCPUs: f.cpus,
		MemoryMB: int(f.memory), DiskMB: int(f.disk), StartCommand: f.start, ReadyCommand: f.ready, Tags: f.tags,
	}
	if cmd.Flags().Changed("step-timeout") {
		if f.stepTimeout < time.Second || f.stepTimeout%time.Second != 0 {
			return usagef(cmd, "--step-timeout is whole seconds, at least 1")
		}
		req.StepTimeoutSec = int(f.stepTimeout / time.Second)
	}
	if tag != "" {
		req.Tags = append([]string{tag}, f.tags...)
	}
	if err := a.readSecrets(cmd, f.secrets, &req); err != nil {
		return err
	}
	file, err := a.readDockerfile(cmd, f, dir, &req)
	if err != nil {
		return err
	}
	if f.from != "" {
		if req.From, err = a.baseOf(ctx, f); err != nil {
			return err
		}
	}
	found, unread := sourcesOf(&req)
	if err := a.addLogins(cmd, f, found.registries, unread, &req); err != nil {
		return err
	}
	if dir != "" && req.Dockerfile != "" && (found.takesFiles || unread != nil) {
		if req.Context, err = a.sendContext(ctx, dir, file, f.quiet); err != nil {
			return err
		}
	}
	began := time.Now()
	b, err := a.Client().BuildTemplate(ctx, name, req)
	if err != nil {
		return err
	}
	if unread != nil && !f.noAuth { // a later version of the server can read it
		a.note("no credentials of registries were sent, because this version of wrenn cannot read the Dockerfile: %s", printable(unreadText(unread)))
	}
	return a.awaitBuild(ctx, f, b, began)
}

// awaitBuild shows a build until its end, and prints its id.
func (a *App) awaitBuild(ctx context.Context, f buildFlags, b *client.TemplateBuild, began time.Time) error {
	if !f.detach {
		var view *buildView
		if f.quiet || a.json {
			view = a.newBuildView(nil, false)
		} else {
			view = a.newBuildView(a.io.Err, false)
		}
		end, err := a.followBuild(ctx, b, view)
		if err != nil {
			return a.interruptedBuild(ctx, err, b.ID)
		}
		if b = end; b.Status != client.BuildReady && view.out == nil {
			view.printFailedStep(b)
		}
	}
	if a.json {
		if err := a.printJSON(b); err != nil {
			return err
		}
	}
	if !f.detach {
		if err := buildFailure(b); err != nil {
			return err
		}
	}
	if a.json {
		return nil
	}
	if _, err := fmt.Fprintln(a.io.Out, b.ID); err != nil {
		return err
	}
	switch name, _, _ := strings.Cut(f.name, ":"); {
	case f.quiet:
	case f.detach:
		a.note("the build runs; follow it with: wrenn template logs -f %s", b.ID)
	default:
		a.note("built %s in %s; try: wrenn run --template %s -- COMMAND", builtName(name, b), showDuration(time.Since(began)), builtName(name, b))
	}
	return nil
}

// builtName is the name by which a build is used: with its first tag, unless it has the
// default one.
func builtName(name string, b *client.TemplateBuild) string {
	for _, tag := range b.Tags {
		if tag == defaultTag {
			return name
		}
	}
	if len(b.Tags) == 0 {
		return name
	}
	return name + ":" + printable(b.Tags[0])
}

// printFailedStep prints the last lines of the step that failed, if they have not been
// printed.
func (v *buildView) printFailedStep(b *client.TemplateBuild) {
	for _, e := range v.tail {
		if b.Reason == nil || b.Reason.Step == "" || e.Step == b.Reason.Step {
			v.app.note("%s", showLog(e))
		}
	}
}

// readDockerfile sets the text of req and returns the path of the Dockerfile; "" is none.
func (a *App) readDockerfile(cmd *cobra.Command, f buildFlags, dir string, req *client.BuildRequest) (string, error) {
	file := f.file
	switch {
	case file == "-":
		text, err := io.ReadAll(io.LimitReader(a.io.In, maxDockerfile+1))
		req.Dockerfile = string(text)
		return "", errors.Join(err, checkDockerfile("the standard input", req.Dockerfile))
	case file == "" && dir == "" && f.from == "":
		return "", usagef(cmd, "build needs a directory, --file or --from")
	case file == "" && dir == "":
		return "", nil
	case file == "":
		file = filepath.Join(dir, "Dockerfile")
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && f.file == "" {
		if f.from != "" {
			return "", nil
		}
		return "", &Failure{Message: "there is no " + file, Hint: "name the Dockerfile with --file, or a base with --from"}
	}
	if err != nil {
		return "", err
	}
	req.Dockerfile = string(text)
	return file, checkDockerfile(file, req.Dockerfile)
}

func checkDockerfile(name, text string) error {
	switch {
	case len(text) > maxDockerfile:
		return &Failure{Message: fmt.Sprintf("%s has more than %s", name, showBytes(maxDockerfile))}
	case strings.TrimSpace(text) == "":
		return &Failure{Message: name + " is empty"}
	}
	return nil
}

// readSecrets reads the values of --secret. Without a source, the value is that of the
// variable, or else the file, with the name of the id, as with Docker.
func (a *App) readSecrets(cmd *cobra.Command, given []string, req *client.BuildRequest) error {
	for _, text := range given {
		fields := map[string]string{}
		for _, part := range strings.Split(text, ",") {
			key, value, ok := strings.Cut(part, "=")
			if key == "source" {
				key = "src"
			}
			if !ok || key != "id" && key != "src" && key != "env" && key != "type" {
				return usagef(cmd, "--secret is written id=ID,src=FILE or id=ID,env=VARIABLE")
			}
			fields[key] = value
		}
		id := fields["id"]
		if id == "" || fields["src"] != "" && fields["env"] != "" {
			return usagef(cmd, "--secret needs an id, and either src or env")
		}
		value, err := a.secretValue(id, fields["src"], fields["env"])
		if err != nil {
			return err
		}
		if req.Secrets == nil {
			req.Secrets, req.SecretsEncoding = map[string]string{}, "base64"
		}
		req.Secrets[id] = base64.StdEncoding.EncodeToString(value)
	}
	return nil
}

func (a *App) secretValue(id, file, variable string) ([]byte, error) {
	if file == "" {
		from := variable
		if from == "" {
			from = id
		}
		if value, ok := a.io.LookupEnv(from); ok {
			return []byte(value), nil
		}
		if variable != "" {
			return nil, &Failure{Message: "the variable " + variable + " of the secret " + id + " is not set"}
		}
		file = id
	}
	value, err := a.readFile(file)
	if err == nil && len(value) > maxSecret {
		err = &Failure{Message: fmt.Sprintf("the secret %s has more than %s", id, showBytes(maxSecret))}
	}
	return value, err
}

// The prefixes of a --from, which name its kind.
const (
	archivePrefix  = "oci-archive:"
	templatePrefix = "template:"
	imagePrefix    = "image:"
)

// baseOf returns the base that --from names.
func (a *App) baseOf(ctx context.Context, f buildFlags) (*client.TemplateBase, error) {
	if file, ok := strings.CutPrefix(f.from, archivePrefix); ok {
		digest, err := a.sendArchive(ctx, file, f.quiet)
		return &client.TemplateBase{Archive: digest}, err
	}
	if name, ok := strings.CutPrefix(f.from, templatePrefix); ok {
		return &client.TemplateBase{Template: name}, nil
	}
	if reference, ok := strings.CutPrefix(f.from, imagePrefix); ok {
		return &client.TemplateBase{Image: reference}, nil
	}
	if name, _, _ := strings.Cut(f.from, ":"); !strings.ContainsAny(f.from, "/@") {
		switch _, err := a.Client().GetTemplate(ctx, name); {
		case err == nil:
			return &client.TemplateBase{Template: f.from}, nil
		case !isCode(err, "template_not_found"):
			return nil, err
		}
	}
	return &client.TemplateBase{Image: f.from}, nil
}

// isCode reports whether err is an error of the API with the code.
func isCode(err error, code string) bool {
	var refused *client.Error
	return errors.As(err, &refused) && refused.Code == code
}

// addLogins adds the credentials for the registries of the build's images. unread is the error of
// a text that cannot be read here: the server reports it, and gets no credentials.
func (a *App) addLogins(cmd *cobra.Command, f buildFlags, hosts []string, unread error, req *client.BuildRequest) error {
	switch {
	case (f.registryUser == "") == f.registryPassword:
		return usagef(cmd, "--registry-user and --registry-password-stdin go together")
	case f.registryUser != "" && f.file == "-":
		return usagef(cmd, "the standard input cannot be both the Dockerfile and the password")
	case f.registryUser != "" && unread != nil:
		return &Failure{Message: unreadText(unread), Code: dockerfile.Reason, Hint: "--registry-user needs a Dockerfile that names the images of one registry"}
	case f.registryUser != "" && len(hosts) != 1:
		return usagef(cmd, "--registry-user needs images of one registry; these are of %d: use `docker login` for each", len(hosts))
	case f.registryUser != "":
		password, err := io.ReadAll(io.LimitReader(a.io.In, 64<<10))
		if err != nil {
			return err
		}
		req.Registries = []client.RegistryLogin{{Server: hosts[0], Username: f.registryUser, Password: strings.TrimRight(string(password), "\r\n")}}
	case !f.noAuth:
		req.Registries = dockerLogins(hosts)
	}
	return nil
}

// sendContext packs dir and uploads it, unless the server has it, and returns its digest.
func (a *App) sendContext(ctx context.Context, dir, dockerfile string, quiet bool) (string, error) {
	ignore, err := ignorePatterns(dir, dockerfile)
	if err != nil {
		return "", err
	}
	bar := a.packProgress(quiet)
	packed, err := packContext(ctx, dir, ignore, func(name string) {
		a.note("left out %s, which is no file, directory or link", printable(name))
	}, bar.show)
	bar.end()
	if err != nil {
		return "", err
	}
	defer packed.close()
	return packed.digest, a.sendUpload(ctx, fmt.Sprintf("context of %s", showFiles(packed.files)), packed.file, packed.digest, packed.size, quiet)
}

func showFiles(n int) string {
	if n == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", n)
}

// sendArchive uploads an image archive, and returns its digest.
func (a *App) sendArchive(ctx context.Context, name string, quiet bool) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, readerUntil{ctx, f})
	if err != nil {
		return "", err
	}
	digest := hexSum(sum)
	return digest, a.sendUpload(ctx, "image "+filepath.Base(name), f, digest, size, quiet)
}

// sendUpload uploads f, unless the server has it.
func (a *App) sendUpload(ctx context.Context, what string, f *os.File, digest string, size int64, quiet bool) error {
	here, err := a.Client().HasUpload(ctx, digest)
	if err != nil {
		return err
	}
	note := func(format string, args ...any) {
		if !quiet {
			a.note(format, args...)
		}
	}
	if here {
		note("%s, %s: the server has it", printable(what), showBytes(size))
		return nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	began := time.Now()
	bar := a.progress(f, size)
	if quiet {
		bar.out = nil
	}
	err = a.Client().PutUpload(ctx, digest, size, bar)
	bar.end()
	if err == nil {
		note("%s, %s: sent in %s", printable(what), showBytes(size), showDuration(time.Since(began)))
	}
	return err
}
