package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// BareRunsc configures containers of runsc by its command line, without Wrenn.
type BareRunsc struct {
	// Program is the path of runsc, RootImage the template of the sandboxes.
	Program, RootImage string
}

// runscSubject measures bare runsc. Its containers have no network, which favors
// them.
type runscSubject struct {
	*recorder
	Options
	dir        string
	made       int
	containers map[string]bool
}

func newRunscSubject(o Options) *runscSubject {
	s := &runscSubject{recorder: newRecorder(Runsc, o.Note), Options: o, containers: map[string]bool{}}
	s.sweep = func(context.Context) error { return s.deleteAll() }
	s.enter(Creates, Milliseconds,
		Measurement{Name: opBareBoot, Shape: Without, About: "runsc run, until true has returned"},
		Measurement{Name: opRestore, About: "runsc restore of a checkpoint"},
		Measurement{Name: opRestoreExec, About: "the same until true has returned"})
	s.enter(Shapes, Milliseconds, Measurement{Name: opBurstLast, Shape: Burst, About: fmt.Sprintf("until %d restores begun at once were done", o.Burst)})
	s.enter(Execs, Milliseconds, Measurement{Name: opExec, About: "runsc exec of true"})
	s.enter(Programs, Milliseconds,
		Measurement{Name: opPython, About: "runsc exec of python3 -c 'print(1)', the first of a restored container"},
		Measurement{Name: opSum, About: "sum(range(10**7)) in Python, timed there"})
	s.enter(Pauses, Milliseconds,
		Measurement{Name: opPause, About: "runsc checkpoint, which ends the container"},
		Measurement{Name: opResume, About: "runsc restore of that"},
		Measurement{Name: opDelete, About: "runsc kill and delete"})
	s.enter(Copies, Milliseconds,
		Measurement{Name: opForkFirst, About: "runsc checkpoint --leave-running and a restore"},
		Measurement{Name: opForkEach, About: "one more restore"})
	s.enter(Transfers, MiBPerSecond,
		Measurement{Name: opUpload, About: "file by runsc exec of cat"},
		Measurement{Name: opDownload, About: "the same file out again"})
	s.enter(Memories, MiB, Measurement{Name: opMemory, About: "Pss of the container's processes after the first commands"})
	return s
}

// rows implements other.
func (s *runscSubject) rows() *recorder { return s.recorder }

// prepare implements other. It makes the checkpoint from which containers are
// restored, after the first commands in its origin as in Wrenn's templates.
func (s *runscSubject) prepare(ctx context.Context) (err error) {
	if s.dir, err = os.MkdirTemp("", "wrenn-bench-runsc"); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(s.dir, "empty"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.dir, "config.json"), []byte(s.config()), 0o600); err != nil {
		return err
	}
	origin, err := s.start(ctx, "run")
	if err != nil {
		return err
	}
	for _, command := range [][]string{{"true"}, append([]string{"python3"}, pythonArgs...)} {
		if _, err := s.exec(ctx, origin, nil, command...); err != nil {
			return err
		}
	}
	return s.checkpoint(ctx, origin, s.template())
}

// config is the specification of every container: that of a sandbox, but a process
// that sleeps in place of the agent.
func (s *runscSubject) config() string {
	return fmt.Sprintf(`{"ociVersion":"1.2.1","hostname":"bare",
"process":{"user":{"uid":0,"gid":0},"args":["/bin/sleep","infinity"],"env":["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],"cwd":"/"},
"root":{"path":"empty"},"mounts":[{"destination":"/proc","type":"proc","source":"proc"}],
"annotations":{"dev.gvisor.spec.rootfs.source":%q,"dev.gvisor.spec.rootfs.type":"erofs","dev.gvisor.spec.rootfs.overlay":"memory",
"dev.gvisor.spec.rootfs.options":"size=%dM"},
"linux":{"namespaces":[{"type":"pid"},{"type":"ipc"},{"type":"uts"},{"type":"mount"},{"type":"network"}]}}`, s.Runsc.RootImage, s.Size.DiskMB)
}

func (s *runscSubject) template() string { return filepath.Join(s.dir, "template") }

// command runs a command of runsc to its end.
func (s *runscSubject) command(ctx context.Context, in io.Reader, out io.Writer, args ...string) error {
	flags := []string{
		"--root=" + filepath.Join(s.dir, "state"), "--platform=systrap", "--network=none", "--ignore-cgroups",
		"--sidecar-usage-policy=LEGACY_DEPRECATED_SLOW_EMBEDDED_FALLBACK",
	}
	cmd := exec.CommandContext(ctx, s.Runsc.Program, append(flags, args...)...)
	// A detached container keeps the standard files, so they are no pipes.
	messages, err := os.CreateTemp(s.dir, "messages")
	if err != nil {
		return err
	}
	defer messages.Close()
	defer os.Remove(messages.Name())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, messages, messages
	if out != nil {
		cmd.Stdout = out
	}
	if err := cmd.Run(); err != nil {
		said := make([]byte, 300)
		n, _ := messages.ReadAt(said, 0)
		said = said[:n]
		return fmt.Errorf("runsc %s: %w: %s", args[0], err, bytes.TrimSpace(said))
	}
	return nil
}

// start runs or restores a container and returns its name.
func (s *runscSubject) start(ctx context.Context, command string, args ...string) (string, error) {
	name := s.name()
	return name, s.startAs(ctx, name, command, args...)
}

func (s *runscSubject) startAs(ctx context.Context, name, command string, args ...string) error {
	args = append([]string{command, "--detach", "--bundle=" + s.dir, "--pid-file=" + s.pidFile(name)}, args...)
	return s.command(ctx, nil, nil, append(args, name)...)
}

// name returns the name of a new container, which is deleted after the part.
func (s *runscSubject) name() string {
	s.made++
	name := "bare" + strconv.Itoa(s.made)
	s.containers[name] = true
	return name
}

func (s *runscSubject) pidFile(name string) string { return filepath.Join(s.dir, name+".pid") }

func (s *runscSubject) restore(ctx context.Context, image string) (string, error) {
	return s.start(ctx, "restore", "--image-path="+image)
}

// checkpoint saves a container in a new directory.
func (s *runscSubject) checkpoint(ctx context.Context, name, image string, args ...string) error {
	if err := errors.Join(os.RemoveAll(image), os.Mkdir(image, 0o700)); err != nil {
		return err
	}
	args = append([]string{"checkpoint", "--compression=none", "--image-path=" + image}, args...)
	return s.command(ctx, nil, nil, append(args, name)...)
}

func (s *runscSubject) exec(ctx context.Context, name string, in io.Reader, command ...string) (string, error) {
	var out bytes.Buffer
	err := s.command(ctx, in, &out, append([]string{"exec", name}, command...)...)
	return out.String(), err
}

func (s *runscSubject) delete(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanLimit)
	defer cancel()
	// A container that has ended cannot be killed, and is deleted all the same.
	_ = s.command(ctx, nil, nil, "kill", name, "KILL")
	if err := s.command(ctx, nil, nil, "delete", "--force", name); err != nil {
		return err
	}
	delete(s.containers, name)
	return nil
}

func (s *runscSubject) deleteAll() error {
	var errs []error
	for name := range s.containers {
		errs = append(errs, s.delete(name))
	}
	return errors.Join(errs...)
}

// close implements other.
func (s *runscSubject) close() error {
	if s.dir == "" {
		return nil
	}
	return errors.Join(s.deleteAll(), os.RemoveAll(s.dir))
}

// pss returns the memory of a container's processes.
func (s *runscSubject) pss(name string) (float64, error) {
	text, err := os.ReadFile(s.pidFile(name))
	if err != nil {
		return 0, err
	}
	processes, err := withChildren([]string{"/proc/" + strings.TrimSpace(string(text))})
	if err != nil {
		return 0, err
	}
	return memoryOf(processes)
}

// timed calls do and records its duration.
func (s *runscSubject) timed(op string, do func() error) error {
	began := time.Now()
	if err := do(); err != nil {
		return err
	}
	s.addTime(op, time.Since(began))
	return nil
}
