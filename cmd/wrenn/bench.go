package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/internal/bench"
	"github.com/wrenn-dev/wrenn/internal/cli"
	"github.com/wrenn-dev/wrenn/internal/daemon"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/qemu"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/tsc"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

type benchConfig struct {
	data  dataSettings
	bench benchSettings
}

// benchSettings select the measurements and the files for their results.
type benchSettings struct {
	size                 bench.Size
	rounds, burst, waves int
	staggerMS            int
	dirtyMB              []int
	dirtyRounds, density int
	fileMB, largeMB      int64
	streams, streamSec   int
	bare                 bool
	qemu, runsc, out     string
	runtimes             []string
}

func (s *benchSettings) flags(f flagSet) {
	f.IntVar(&s.rounds, "n", 20, "number of rounds; each round measures every part once")
	f.IntVar(&s.burst, "burst", 20, "number of creates in a burst, and of staggered creates; 0 skips both")
	f.IntVar(&s.waves, "burst-rounds", 3, "number of bursts")
	f.IntVar(&s.staggerMS, "stagger-ms", 200, "time between two staggered creates, in ms")
	f.IntSliceVar(&s.dirtyMB, "dirty-mb", []int{8, 64, 256}, "amounts of memory or disk, in MiB, written before a pause or a fork")
	f.IntVar(&s.dirtyRounds, "dirty-rounds", 5, "number of pauses and forks for each amount; 0 skips them")
	f.IntVar(&s.density, "density", 0, "number of idle sandboxes alive at the same time; 0 skips the measurement")
	f.IntVar(&s.size.VCPUs, "vcpus", sandbox.DefaultVCPUs, "virtual CPUs of each sandbox")
	f.IntVar(&s.size.MemoryMB, "memory-mb", sandbox.DefaultMemoryMB, "memory of each, in MiB")
	f.IntVar(&s.size.DiskMB, "disk-mb", sandbox.DefaultDiskMB, "disk of each, in MiB")
	f.Int64Var(&s.fileMB, "file-mb", 64, "size of the uploaded and downloaded file, in MiB; 0 skips the transfers")
	f.Int64Var(&s.largeMB, "large-mb", 1024, "size of one more transfer by /files of E2B's clients and by a port, in MiB; 0 skips it")
	f.IntVar(&s.streams, "streams", 100, "number of streams of output that are open together; 0 skips the measurement")
	f.IntVar(&s.streamSec, "stream-sec", 60, "time for which they are open, in seconds")
	f.BoolVar(&s.bare, "bare", true, "compare with a bare QEMU, bare runsc and plain processes, which needs the server's images on this machine, and root")
	f.StringVar(&s.qemu, "qemu", qemu.DefaultBinary, "QEMU for the bare boots")
	f.StringVar(&s.runsc, "runsc", "", "runsc for the bare containers (default: the newest build in the images)")
	f.StringSliceVar(&s.runtimes, "runtime", nil, "runtimes to measure: microvm, gvisor (default: all that the host offers)")
	f.StringVar(&s.out, "out", "", "file for the report with every sample, as JSON")
}

func (s *benchSettings) validate() error {
	if s.rounds < 1 || min(s.burst, s.waves, s.staggerMS, s.dirtyRounds, s.density, s.streams) < 0 || min(s.fileMB, s.largeMB) < 0 {
		return errors.New("--n is at least 1; --burst, --burst-rounds, --stagger-ms, --dirty-rounds, --density, --streams, --file-mb and --large-mb must not be negative")
	}
	if s.streamSec < 5 {
		return errors.New("--stream-sec is at least 5")
	}
	for i, mb := range s.dirtyMB {
		if mb < 1 || slices.Contains(s.dirtyMB[:i], mb) {
			return errors.New("--dirty-mb is a list of different sizes of at least 1 MiB")
		}
	}
	return nil
}

func (p program) addBench() {
	cfg := new(benchConfig)
	cmd := &cobra.Command{
		Use:   "bench [flags]",
		Short: "Measure a server: create, exec, pause, resume, fork, transfers, memory",
		Long: "Measure a server through its REST API. For comparison it boots the same guest by a bare QEMU, runs containers of\n" +
			"bare runsc, and runs plain processes with the same files. The command\n" +
			"creates sandboxes and destroys them. The results are valid for this machine at its present load only.\n" +
			"The report lists the parts that could not be measured. If a create fails, the command writes the report and fails.",
		Example: "  sudo wrenn bench\n  sudo wrenn bench --n 50 --density 100 --out bench.json\n  wrenn bench --url https://wrenn.example --bare=false",
	}
	p.add(p.app.Root(), cmd, config{&cfg.data, &cfg.bench}, func(ctx context.Context, _ []string) error { return p.bench(ctx, cfg) })
	cmd.SetHelpFunc(nil) // unlike the servers, it has use for --url
	cmd.GroupID = cli.GroupSandboxes
}

func (p program) bench(ctx context.Context, cfg *benchConfig) error {
	o := cfg.bench.options()
	o.Client, o.Note, o.Server = p.app.Client(), p.say, serverProcess(cfg.data.layout())
	if cfg.bench.bare {
		if err := addBareSubjects(ctx, &o, cfg); err != nil {
			return err
		}
	}
	report, err := bench.Run(ctx, o)
	if report == nil {
		return err
	}
	// A run with failures has a report too.
	return errors.Join(err, p.showBench(report, cfg.bench))
}

// densityRest is the time for which idle sandboxes are observed.
const densityRest = 10 * time.Second

func (s *benchSettings) options() bench.Options {
	return bench.Options{
		Size: s.size, Runtimes: s.runtimes, Rounds: s.rounds, Burst: s.burst, Waves: s.waves, Stagger: time.Duration(s.staggerMS) * time.Millisecond,
		DirtyMB: s.dirtyMB, DirtyRounds: s.dirtyRounds, FileBytes: s.fileMB << 20, LargeBytes: s.largeMB << 20,
		Streams: s.streams, StreamTime: time.Duration(s.streamSec) * time.Second, Density: s.density, Rest: densityRest,
	}
}

// showBench writes the requested files, and prints the report.
func (p program) showBench(report *bench.Report, s benchSettings) error {
	err := toFile(s.out, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(report)
	})
	if p.app.JSON() {
		return errors.Join(err, p.printJSON(report))
	}
	return errors.Join(err, report.Text(p.io.Out))
}

// addBareSubjects adds the subjects with which the server is compared.
func addBareSubjects(ctx context.Context, o *bench.Options, cfg *benchConfig) (err error) {
	if o.Bare, err = bareGuest(ctx, cfg); err != nil {
		return err
	}
	o.Native = &bench.BareNative{RootImage: o.Bare.RootImage}
	program := cfg.bench.runsc
	if program == "" {
		program = newestRunsc(cfg.data.layout().images())
	}
	if program != "" {
		o.Runsc = &bench.BareRunsc{Program: program, RootImage: o.Bare.RootImage}
	}
	return nil
}

// newestRunsc returns the newest build of runsc, or nothing.
func newestRunsc(images string) (newest string) {
	names, _ := filepath.Glob(filepath.Join(images, "runsc", "*", "runsc")) // the pattern is valid
	var made time.Time
	for _, name := range names {
		if st, err := os.Stat(name); err == nil && st.ModTime().After(made) {
			newest, made = name, st.ModTime()
		}
	}
	return newest
}

// serverProcess returns the process of the "wrenn up" that uses a data directory, or 0.
func serverProcess(dirs layout) int {
	up, err := daemon.Holder(dirs.lock())
	if err != nil || up == nil {
		return 0
	}
	defer up.Close()
	return up.PID
}

// bareGuest returns the images of the server's sandboxes.
func bareGuest(ctx context.Context, cfg *benchConfig) (*bench.Bare, error) {
	dir := cfg.data.layout().images()
	if _, err := os.Stat(dir); err != nil {
		return nil, fault.Wrap(err, fault.NotFound, "images_missing",
			"the server's images are not in %s: name its --data-dir, or leave the comparison out with --bare=false", dir)
	}
	store, err := image.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	guest, err := guestBinary()
	if err != nil {
		return nil, err
	}
	kernel, err := store.Kernel()
	if err != nil {
		return nil, err
	}
	initramfs, err := store.EnsureInitramfs(ctx, kernel, guest)
	if err != nil {
		return nil, err
	}
	template, err := store.Template(image.Minimal().Name)
	if err != nil {
		return nil, err
	}
	khz, err := tsc.HostKHz()
	if err != nil {
		return nil, err
	}
	return &bench.Bare{
		Binary: cfg.bench.qemu, Kernel: kernel.Vmlinux, Initramfs: initramfs.Path, RootImage: template.Path,
		TSCKHz: khz, MakeDisk: disk.Create,
	}, nil
}

// toFile writes a file, or nothing where path is empty.
func toFile(path string, write func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("the report: %w", err)
	}
	return errors.Join(write(f), f.Close())
}
