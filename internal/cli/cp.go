package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

// place is one end of a copy: a local file, "-" for a standard stream, or a file in
// a sandbox.
type place struct {
	id   string // empty for a local file
	path string
}

func (p place) isStream() bool { return p.id == "" && p.path == "-" }

// placeOf parses "ID:/path" as a file in a sandbox and every other argument as a
// local file. A local name with a colon is written "./a:b".
func placeOf(arg string) (place, error) {
	id, rest, ok := strings.Cut(arg, ":")
	if !ok || strings.Contains(id, "/") || strings.HasPrefix(id, ".") {
		if arg == "" {
			return place{}, errors.New("a path must not be empty")
		}
		return place{path: arg}, nil
	}
	if id == "" || !strings.HasPrefix(rest, "/") {
		return place{}, errors.New(arg + " needs an absolute path in the sandbox: ID:/path; for a local file write ./" + arg)
	}
	return place{id: id, path: rest}, nil
}

func (a *App) cpCmd() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use:   "cp [flags] FROM TO",
		Short: "Copy files and directories into or out of a sandbox",
		Long: "Copy a file or a directory into or out of a sandbox, with its permissions. One of FROM and TO is ID:/path. The\n" +
			"other is a local path, or - for the standard input or output (a directory is written as tar). If TO is a\n" +
			"directory, the copy keeps its name. Links of a sandbox's directory that lead outside of it are left out. A directory\n" +
			"has at most 1,000,000 entries and 64 GiB.",
		Example: "  wrenn cp data.csv $id:/tmp/\n  wrenn cp $id:/var/log/out.log .\n" +
			"  tar c src | wrenn cp - $id:/tmp/src.tar",
		Args: args(2, 2, "FROM and TO"),
	}
	cmd.Flags().StringVarP(&user, "user", "u", "", "user to act as in the sandbox (the guest's default)")
	// Directories are always copied completely; users of cp(1) and scp(1) type -r.
	cmd.Flags().BoolP("recursive", "r", false, "accepted, as by cp: directories are always copied whole")
	cmd.Flags().BoolVarP(&a.quiet, "quiet", "q", false, "show neither progress nor a summary")
	cmd.ValidArgsFunction = a.completePlaces
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		from, err := placeOf(argv[0])
		if err != nil {
			return usagef(cmd, "%w", err)
		}
		to, err := placeOf(argv[1])
		if err != nil {
			return usagef(cmd, "%w", err)
		}
		if (from.id == "") == (to.id == "") {
			return usagef(cmd, "one of FROM and TO must be in a sandbox (ID:/path) and the other a local path")
		}
		for _, end := range []*place{&from, &to} {
			if end.id == "" {
				continue
			}
			if end.id, err = a.sandboxID(cmd.Context(), end.id); err != nil {
				return err
			}
		}
		began := time.Now()
		copyFile := a.upload
		if from.id != "" {
			copyFile = a.download
		}
		n, err := copyFile(cmd.Context(), from, to, user)
		if err != nil {
			return err
		}
		return a.copied(n, time.Since(began), to)
	}
	return cmd
}

// copied reports a copy, as JSON unless the content itself went to stdout.
func (a *App) copied(n int64, took time.Duration, to place) error {
	if a.json && !to.isStream() {
		return a.printJSON(struct {
			Bytes      int64 `json:"bytes"`
			DurationMS int64 `json:"duration_ms"`
		}{n, took.Milliseconds()})
	}
	if !a.quiet {
		a.note("copied %s in %s", showBytes(n), showDuration(took))
	}
	return nil
}

func (a *App) upload(ctx context.Context, from, to place, user string) (int64, error) {
	if from.isStream() {
		if strings.HasSuffix(to.path, "/") {
			return 0, &Failure{Message: "the standard input has no file name: add one to " + to.path}
		}
		content := a.progress(a.io.In, unknownSize)
		defer content.end()
		err := a.Client().WriteFile(ctx, to.id, client.Upload{Path: to.path, User: user}, content)
		return content.count(), err
	}
	f, err := os.Open(from.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if st.IsDir() {
		return a.uploadDir(ctx, from.path, to, user)
	}
	up := client.Upload{Path: to.path, User: user, Mode: st.Mode().Perm()}
	if st.Mode().IsRegular() {
		up.Size = st.Size()
	}
	return a.uploadFile(ctx, to.id, up, f)
}

// uploadFile sends f. Only the sandbox knows whether the target is a directory; then
// a second attempt adds the file's name.
func (a *App) uploadFile(ctx context.Context, id string, up client.Upload, f *os.File) (int64, error) {
	name := filepath.Base(f.Name())
	if strings.HasSuffix(up.Path, "/") {
		up.Path += name
		name = ""
	}
	n, err := a.send(ctx, id, up, f)
	var refused *client.Error
	if name == "" || !errors.As(err, &refused) || refused.Code != "is_directory" {
		return n, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, refused
	}
	up.Path = path.Join(up.Path, name)
	return a.send(ctx, id, up, f)
}

// send sends the content of f, of up.Size bytes if it is a regular file, and returns the
// number of bytes sent.
func (a *App) send(ctx context.Context, id string, up client.Upload, f *os.File) (int64, error) {
	total := int64(unknownSize)
	if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
		total = st.Size()
	}
	content := a.progress(f, total)
	defer content.end()
	err := a.Client().WriteFile(ctx, id, up, content)
	return content.count(), err
}

func (a *App) download(ctx context.Context, from, to place, user string) (int64, error) {
	f, err := a.Client().ReadFile(ctx, from.id, from.path, user)
	var refused *client.Error
	if errors.As(err, &refused) && refused.Code == "is_directory" {
		return a.downloadDir(ctx, from, to)
	}
	if err != nil {
		return 0, err
	}
	defer f.Body.Close()
	bar := a.progress(f.Body, f.Size)
	defer bar.end()
	if to.isStream() {
		return io.Copy(a.io.Out, bar)
	}
	return saveAs(localTarget(from, to), bar, a.modeIn(ctx, from))
}

// localTarget returns the local path of a copy. In a directory it gets the name in
// from, which the user typed, never a name that the sandbox chose.
func localTarget(from, to place) string {
	if st, err := os.Stat(to.path); strings.HasSuffix(to.path, "/") || (err == nil && st.IsDir()) {
		return filepath.Join(to.path, path.Base(from.path))
	}
	return to.path
}

// modeIn returns the permission bits of a file in a sandbox, without those that the
// umask takes from every new file. If they are not known, as
// with an agent of an earlier version, it returns nil, which is the mode of a new file.
func (a *App) modeIn(ctx context.Context, from place) *fs.FileMode {
	e, err := a.Client().StatFile(ctx, from.id, from.path, true)
	if err != nil {
		return nil
	}
	bits, err := strconv.ParseUint(e.Mode, 8, 12)
	if err != nil {
		return nil
	}
	mode := fs.FileMode(bits) & fs.ModePerm &^ umask() // as cp and scp do
	return &mode
}

// saveAs writes a file completely or not at all. An existing target that is no
// regular file, such as a device, is written in place. A nil mode is that of a new
// file.
func saveAs(target string, content io.Reader, mode *fs.FileMode) (n int64, err error) {
	if st, err := os.Stat(target); err == nil && !st.Mode().IsRegular() {
		f, err := os.OpenFile(target, os.O_WRONLY, 0)
		if err != nil {
			return 0, err
		}
		n, err := io.Copy(f, content)
		return n, errors.Join(err, f.Close())
	}
	// Not os.CreateTemp, whose files only the owner may read: the umask applies, as
	// for any new file.
	part, fresh := target+"."+rand.Text(), fs.FileMode(0o666)
	if mode != nil {
		fresh = 0o600 // until it is complete
	}
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fresh)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, &Failure{Message: "the directory " + filepath.Dir(target) + " does not exist", Hint: "make it first, or name another place"}
	}
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(f, content)
	if err == nil && mode != nil {
		err = f.Chmod(*mode)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(part, target)
	}
	if err != nil {
		_ = os.Remove(part)
	}
	return n, err
}
