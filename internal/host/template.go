package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/instance"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/snapshot"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// template is the snapshot of a guest that has booted and done nothing else,
// from which sandboxes of one kind are cloned.
type template struct {
	key   string
	dir   snapshot.Dir
	image image.Template
}

// templates knows which template snapshots are being built.
//
// Invariant: a key is in building while, and only while, one goroutine builds
// it; everybody else who wants it waits for that one.
type templates struct {
	mu       sync.Mutex // protects the following
	building map[string]*templateBuild
}

type templateBuild struct {
	done chan struct{}
	dir  snapshot.Dir // valid, as err, once done is closed
	err  error
	// stage is that of the build's body.
	stage *stage
}

// templateKey names a template snapshot by everything its content depends on. Any
// change makes a new key, so that a hit is never stale. The clock rate
// of the host is left out, since a measured one is never twice the same; it is
// compared, with a tolerance, when the snapshot is used.
func (m *Manager) templateKey(spec sandbox.Spec, img image.Template) (string, map[string]string) {
	driver := m.driverOf(spec)
	print := snapshot.Fingerprint(driver, spec, "")
	maps.Copy(print, driver.BootInputs())
	print["image"], print["disk_mb"], print["disk_format"] = img.Digest, fmt.Sprint(spec.DiskMB), disk.Format()
	if img.Start != (image.Start{}) {
		print["start"] = img.Start.String()
	}
	rate := print[vmm.FingerprintTSC]
	delete(print, vmm.FingerprintTSC)
	data, _ := json.Marshal(print) // a map of strings cannot fail; keys are sorted
	if rate != "" {
		print[vmm.FingerprintTSC] = rate
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:12]), print
}

// ensureTemplate returns the template snapshot for spec. If none fits it builds one,
// once for all callers.
//
// The caller's stage shows the build meanwhile; it may be nil.
func (m *Manager) ensureTemplate(ctx context.Context, spec sandbox.Spec, caller *stage) (template, error) {
	img, err := m.template(spec.Template)
	if err != nil {
		return template{}, err
	}
	key, print := m.templateKey(spec, img)
	t := template{key: key, image: img}
	if t.dir = m.findTemplate(key, print); t.dir != "" {
		return t, nil
	}
	b := m.startBuild(t, print, spec)
	caller.follow(b.stage)
	defer caller.follow(nil)
	select {
	case <-b.done:
		t.dir = b.dir
		return t, b.err
	case <-ctx.Done():
		return template{}, context.Cause(ctx)
	}
}

// findTemplate returns a whole template snapshot of key that was taken under
// print, or nothing. Each build has a directory of its own, so that one that
// does not fit any more stays for the paused sandboxes that are based on it.
func (m *Manager) findTemplate(key string, print map[string]string) snapshot.Dir {
	dirs, _ := filepath.Glob(filepath.Join(m.cfg.TemplateDir, key+".*")) // fails for bad patterns alone
	for _, dir := range dirs {
		mf, err := snapshot.ReadManifest(snapshot.Dir(dir))
		if err == nil && vmm.CheckFingerprint(mf.TemplateInputs, print) == nil {
			return snapshot.Dir(dir)
		}
	}
	return ""
}

// startBuild joins the build of key or starts one, which continues when its callers
// are gone.
func (m *Manager) startBuild(t template, print map[string]string, spec sandbox.Spec) *templateBuild {
	m.templates.mu.Lock()
	defer m.templates.mu.Unlock()
	if b := m.templates.building[t.key]; b != nil {
		return b
	}
	b := &templateBuild{done: make(chan struct{}), stage: new(stage)}
	m.templates.building[t.key] = b
	m.running.Go(func() {
		defer close(b.done)
		if b.dir = m.findTemplate(t.key, print); b.dir == "" { // it may have been finished just before
			b.err = fault.Caught(func() (err error) {
				b.dir, err = m.buildTemplate(m.life, t, print, spec, b.stage)
				return err
			})
		}
		m.templates.mu.Lock()
		delete(m.templates.building, t.key)
		m.templates.mu.Unlock()
	})
	return b
}

// buildTemplate boots a VM, seals its guest, and publishes the saved VM with its
// disk as the template snapshot.
func (m *Manager) buildTemplate(life context.Context, t template, print map[string]string, spec sandbox.Spec, at *stage) (snapshot.Dir, error) {
	spec = templateSpec(spec)
	id := sandbox.NewID()
	b := newBody(m, instance.Dir(filepath.Join(m.layout.builds(), string(id))), journal.Record{
		ID: id, Generation: 1, Spec: spec, State: sandbox.Pending,
		Instance: journal.Instance{TemplateDigest: t.image.Digest, RootImage: t.image.Path},
	})
	b.stage = at
	b.log.InfoContext(life, "making a template snapshot", "template", spec.Template, "vcpus", spec.VCPUs, "memory_mb", spec.MemoryMB)
	to := snapshot.Dir(filepath.Join(m.cfg.TemplateDir, t.key+"."+b.Name))
	err := fault.Caught(func() error {
		if err := b.coldBoot(life, t.image.Start); err != nil {
			return err
		}
		return b.makeTemplate(life, to, print)
	})
	// Also when the agent is closing, because half a build cannot be continued.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(life), teardownTimeout)
	defer cancel()
	if cleanup := errors.Join(b.free(ctx), os.RemoveAll(string(b.Dir))); cleanup != nil {
		b.log.ErrorContext(ctx, "could not free the VM of a template build", "error", cleanup)
	}
	if life.Err() != nil {
		return "", errors.Join(context.Cause(life), err)
	}
	if err != nil {
		return "", createFault(fmt.Errorf("make a template snapshot: %w", err))
	}
	b.log.InfoContext(life, "template snapshot made", "template", spec.Template, "dir", string(to))
	return to, nil
}

// templateSpec returns the part of spec that a template snapshot and a warm clone depend on.
func templateSpec(spec sandbox.Spec) sandbox.Spec {
	return sandbox.Spec{
		Template: spec.Template, Runtime: spec.Runtime, VCPUs: spec.VCPUs, MemoryMB: spec.MemoryMB, DiskMB: spec.DiskMB,
	}.WithDefaults()
}

// makeTemplate seals the guest, saves the VM and moves the files to the place of the
// template snapshot, all or none.
func (b *body) makeTemplate(ctx context.Context, to snapshot.Dir, print map[string]string) error {
	snap := b.pauseDir("template")
	if err := os.Mkdir(string(snap), 0o700); err != nil {
		return err
	}
	for _, s := range []step{
		{journal.StepTemplateSeal, b.restAndSeal},
		{journal.StepTemplateSave, func(ctx context.Context) error {
			if err := b.VM.Pause(ctx); err != nil {
				return err
			}
			return b.saveWhole(ctx, snap)
		}},
		{journal.StepTemplatePublish, func(ctx context.Context) error {
			if err := b.moveDiskTo(snap); err != nil {
				return err
			}
			mf := b.manifest(b.captured)
			mf.TemplateInputs = print
			if err := b.mgr.snapshots.Seal(ctx, snap, mf, true); err != nil {
				return err
			}
			return snap.Publish(to)
		}},
	} {
		if err := b.step(ctx, s.name, s.do); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// saveWhole saves the paused VM to snap.
func (b *body) saveWhole(ctx context.Context, snap snapshot.Dir) error {
	save, err := b.VM.BeginSave(ctx, string(snap))
	if err != nil {
		return err
	}
	b.captured, err = save.Finish(ctx)
	return errors.Join(err, save.Close())
}

// restAndSeal waits until the guest is idle, then seals it.
func (b *body) restAndSeal(ctx context.Context) error {
	rest := time.NewTimer(b.mgr.cfg.TemplateRest)
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, b.mgr.cfg.BootTimeout)
	defer cancel()
	ctx, stop := b.UntilExit(ctx)
	defer stop()
	_, err := b.Guest().QuiesceToDisk(ctx)
	return causeOr(ctx, err)
}

// current reports whether a template snapshot can be used for the spec it was
// made for. There may be several: agents may share a directory.
func (m *Manager) current(t snapshot.Dir) bool {
	mf, err := snapshot.ReadManifest(t)
	if err != nil {
		return false
	}
	img, err := m.template(mf.Spec.Template)
	if err != nil {
		return false
	}
	key, print := m.templateKey(mf.Spec, img)
	return strings.HasPrefix(filepath.Base(string(t)), key+".") && vmm.CheckFingerprint(mf.TemplateInputs, print) == nil
}
