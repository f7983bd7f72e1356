package cgroup

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Manager makes groups. It is safe for use by several goroutines; it holds no
// state that changes.
//
// Invariant: bases are the directories of the manager's name, one in each
// hierarchy used; nothing outside them is ever written but the top's
// cgroup.subtree_control.
type Manager struct {
	log     *slog.Logger
	kind    Kind
	unified string            // base directory in v2, or ""
	v1      map[string]string // controller to base directory
	limits  []string          // controllers that enforce limits
}

var namePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}$`)

// Open finds the host's hierarchies and makes a directory called name in each
// hierarchy that can be used. Two agents on one host need different names. A
// host where nothing can be used is not an error: see Kind.
func Open(name string, log *slog.Logger) (*Manager, error) {
	if !namePattern.MatchString(name) {
		return nil, fault.New(fault.Invalid, "bad_cgroup_name", "a control group name is 1 to 64 plain characters")
	}
	found, err := detect()
	if err != nil {
		log.Warn("mounts cannot be read; VMs run without control groups", "error", err)
	}
	m := &Manager{log: log, v1: map[string]string{}}
	m.openUnified(found, name)
	for c, top := range found.v1 {
		// A controller is in one hierarchy only; where v2 has it v1 does not.
		if base, err := makeBase(top, name); err != nil {
			log.Warn("a v1 control group hierarchy cannot be used", "controller", c, "error", err)
		} else {
			m.v1[c] = base
			m.limits = append(m.limits, c)
		}
	}
	m.kind = layout{unified: m.unified, unifiedHas: m.limitsOfV2(), v1: m.v1}.kind()
	m.openExtras(found)
	slices.Sort(m.limits)
	if len(m.limits) < len(controllers) {
		log.Warn("not every limit on VM processes can be enforced", "cgroup", string(m.kind), "enforced", m.limits)
	}
	return m, nil
}

// openUnified makes the base in v2 and hands the controllers down to it. A
// controller that cannot be handed down (in a container the top may hold
// processes, which forbids it) is no limit here.
func (m *Manager) openUnified(found layout, name string) {
	if found.unified == "" {
		return
	}
	base, err := makeBase(found.unified, name)
	if err != nil {
		m.log.Warn("the v2 control group hierarchy cannot be used", "error", err)
		return
	}
	m.unified = base
	for _, c := range found.unifiedHas {
		err := write(found.unified, "cgroup.subtree_control", "+"+c)
		if err == nil {
			err = write(base, "cgroup.subtree_control", "+"+c)
		}
		if err != nil {
			m.log.Warn("a v2 controller cannot be used", "controller", c, "error", err)
			continue
		}
		m.limits = append(m.limits, c)
	}
}

// openExtras prepares the optional v1 controllers: a list of devices,
// better by BPF, which needs no hierarchy that processes have to be moved into,
// and a weight for disk I/O.
func (m *Manager) openExtras(found layout) {
	use := func(controller string) bool {
		top, ok := found.extraV1[controller]
		if !ok {
			return false
		}
		base, err := makeBase(top, filepath.Base(m.anyBase()))
		if err == nil {
			m.v1[controller] = base
		}
		return err == nil
	}
	err := errors.New("there is no v2 hierarchy")
	if m.unified != "" {
		err = restrictDevices(m.unified)
	}
	if m.anyBase() != "" && err != nil && !use("devices") {
		m.log.Info("VM processes have no list of devices; their jail has no others by name", "error", err)
	}
	if base := m.v1["devices"]; base != "" { // groups take it over from there
		if err := restrictDevicesV1(base); err != nil {
			m.log.Warn("the list of devices of VM processes cannot be set", "error", err)
		}
	}
	if m.anyBase() != "" && use("blkio") && weightFile(m.v1["blkio"]) == "" {
		_ = os.Remove(m.v1["blkio"])
		delete(m.v1, "blkio")
	}
	if m.unified != "" {
		// Handed down or not, nothing depends on it.
		_ = write(filepath.Dir(m.unified), "cgroup.subtree_control", "+io")
		_ = write(m.unified, "cgroup.subtree_control", "+io")
	}
}

// anyBase is one of the manager's directories, or "".
func (m *Manager) anyBase() string {
	if bases := m.bases(); len(bases) > 0 {
		return bases[0]
	}
	return ""
}

func (m *Manager) limitsOfV2() []string {
	return slices.DeleteFunc(slices.Clone(m.limits), func(c string) bool { return m.v1[c] != "" })
}

func makeBase(top, name string) (string, error) {
	base := filepath.Join(top, name)
	if err := os.Mkdir(base, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return base, nil
}

// Kind returns the versions of control groups that the groups use.
func (m *Manager) Kind() Kind { return m.kind }

// Create makes the group of id with limits. It fails with fault.Exists if
// there is one. On error nothing is left.
func (m *Manager) Create(id string, limits Limits) (*Group, error) {
	g, err := m.group(id)
	if err != nil {
		return nil, err
	}
	for i, dir := range g.dirs() {
		if err := os.Mkdir(dir, 0o755); err != nil {
			for _, made := range g.dirs()[:i] {
				_ = os.Remove(made)
			}
			if errors.Is(err, fs.ErrExist) {
				return nil, fault.Wrap(err, fault.Exists, "cgroup_exists", "sandbox %s has a control group already", id)
			}
			return nil, fault.Wrap(err, fault.HostFailed, "cgroup_failed", "the sandbox's control group cannot be made")
		}
	}
	err = g.limit(limits, m.limits)
	if err == nil {
		err = g.open()
	}
	if err != nil {
		return nil, errors.Join(err, g.Remove())
	}
	return g, nil
}

// Reuse returns the group of id, empty and with limits. The group exists because it
// could not be removed, or in part because an agent died while it made it. Its Dir
// is nil: a kernel with the fix of the race between fork and cgroup.kill (6.14 and
// later) may at once kill a process that is cloned into a group that has been killed
// before. Add puts the process under the limits. OOMKilled may be true because of an earlier process.
func (m *Manager) Reuse(ctx context.Context, id string, limits Limits) (*Group, error) {
	g, err := m.group(id)
	if err != nil {
		return nil, err
	}
	g.forgetMissing()
	for _, dir := range g.dirs() {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fault.Wrap(err, fault.HostFailed, "cgroup_failed", "the sandbox's control group cannot be made")
		}
	}
	if err := g.Kill(ctx); err != nil {
		return nil, err
	}
	return g, g.limit(limits, m.limits)
}

// Adopt returns the group of id that an earlier agent made. It fails with
// fault.NotFound if there is none. A part of one, in which no process can be, is
// removed: an agent died while it made the group. Where groups are not used it always
// succeeds.
func (m *Manager) Adopt(id string) (*Group, error) {
	g, err := m.group(id)
	if err != nil {
		return nil, err
	}
	g.forgetMissing()
	for _, dir := range g.dirs() {
		if _, err := os.Stat(dir); err != nil {
			if err := g.Remove(); err != nil {
				m.log.Warn("a part of a control group cannot be removed", "sandbox", id, "error", err)
			}
			return nil, fault.Wrap(err, fault.NotFound, "cgroup_missing", "the sandbox's control group is gone")
		}
	}
	return g, g.open()
}

func (m *Manager) group(id string) (*Group, error) {
	if !namePattern.MatchString(id) {
		return nil, fault.New(fault.Invalid, "bad_sandbox_id", "a sandbox id for a control group must be 1 to 64 plain characters")
	}
	g := &Group{v1: map[string]string{}}
	if m.unified != "" {
		g.unified = filepath.Join(m.unified, id)
	}
	for c, base := range m.v1 {
		g.v1[c] = filepath.Join(base, id)
	}
	return g, nil
}

// Sweep kills and removes every group of the manager's that keep, which is
// asked with the id, does not want, and returns their ids.
func (m *Manager) Sweep(ctx context.Context, keep func(id string) bool) ([]string, error) {
	ids := map[string]bool{}
	for _, base := range m.bases() {
		entries, err := os.ReadDir(base)
		if err != nil {
			return nil, fault.Wrap(err, fault.HostFailed, "cgroup_unreadable", "the control groups of sandboxes cannot be listed")
		}
		for _, e := range entries {
			if e.IsDir() && !keep(e.Name()) {
				ids[e.Name()] = true
			}
		}
	}
	var removed []string
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		g, err := m.group(id)
		if err == nil {
			err = g.Kill(ctx)
		}
		if err == nil {
			err = g.Remove()
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, id)
	}
	return removed, errors.Join(errs...)
}

// Close removes the manager's own directories if no group is in them.
func (m *Manager) Close() error {
	var errs []error
	for _, base := range m.bases() {
		if err := rmdir(base); err != nil && !isBusy(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// bases are the manager's directories, each once: v1 controllers may share a
// hierarchy.
func (m *Manager) bases() []string { return distinct(m.unified, m.v1) }

func distinct(unified string, v1 map[string]string) []string {
	dirs := slices.Sorted(maps.Values(v1))
	if unified != "" {
		dirs = append([]string{unified}, dirs...)
	}
	return slices.Compact(dirs)
}
