package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// compileHook makes Python's caches valid regardless of the times of the source
// files: every file of the image has the same time, and caches that are checked
// against times would be discarded and made again at each start.
const compileHook = `if [ -x "$1/usr/bin/python3" ]; then
	chroot "$1" python3 -m compileall -q -f --invalidation-mode unchecked-hash /usr/lib/python3 /usr/lib/python3.*
fi`

// packagesHook writes the installed packages, by name and version, to the file
// whose quoted name follows. It is kept beside the image.
const packagesHook = `chroot "$1" dpkg-query -W -f '${Package}=${Version}\n' > `

// packTemplate builds r's tree in work and packs it into ready.
func (s *Store) packTemplate(ctx context.Context, r Recipe, work, ready string, progress Progress) error {
	root := filepath.Join(work, "root")
	args := []string{
		"--include=" + strings.Join(r.Packages, ","),
		"--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/info/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*",
		"--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-include=/usr/share/doc/*/copyright",
	}
	for _, pattern := range r.Exclude {
		args = append(args, "--dpkgopt=path-exclude="+pattern)
	}
	for _, command := range r.Commands {
		args = append(args, `--customize-hook=chroot "$1" /bin/sh -c `+shellQuote(command))
	}
	packages := filepath.Join(ready, "packages.txt")
	args = append(args, "--customize-hook="+compileHook, "--customize-hook="+packagesHook+shellQuote(packages))
	err := s.run(ctx, bootstrap{
		suite: r.Suite, variant: "minbase", target: root, workDir: work, args: args,
	}, progress)
	if err != nil {
		return err
	}
	progress.report("tidy", "removing caches, logs and host settings")
	if err := tidyRoot(root); err != nil {
		return fmt.Errorf("tidy %s: %w", r.Name, err)
	}
	if err := writeFiles(root, r.Files); err != nil {
		return fmt.Errorf("write the files of %s: %w", r.Name, err)
	}
	return s.makeErofs(ctx, r, root, filepath.Join(ready, "root.erofs"), progress)
}

// makeErofs packs the tree root of r's template into the image at path.
func (s *Store) makeErofs(ctx context.Context, r Recipe, root, path string, progress Progress) error {
	progress.report("pack", "writing the root image")
	return s.packErofs(ctx, root, path, suiteEpoch, r.Digest(), lowWater, progress)
}

// tidyRoot removes files that must not be in an image that many sandboxes share:
// identities, this host's settings, and files that differ from build to
// build. No link in the tree can lead it outside of it.
func tidyRoot(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, pattern := range []string{
		"dev/*", "proc/*", "sys/*", "run/*", "tmp/*", "tmp/.*", "var/tmp/*", "var/log/*.log", "var/log/*tmp", "var/log/*/*",
		"var/cache/apt/*", "var/cache/ldconfig/*", "var/lib/apt/lists/*",
		"etc/apt/apt.conf.d/99mmdebstrap", "etc/dpkg/dpkg.cfg.d/99mmdebstrap", "etc/hostname",
		"etc/ssh/ssh_host_*", "etc/*-", "var/cache/debconf/*-old", "var/lib/dpkg/*-old",
		"var/lib/dbus/machine-id", "var/lib/systemd/random-seed", "root/.bash_history",
		// The guest agent gives each sandbox its own of these two.
		"etc/machine-id", "etc/resolv.conf",
	} {
		paths := []string{pattern}
		if strings.Contains(pattern, "*") {
			// Only for a pattern: of a plain name, Glob would follow the link.
			if paths, err = fs.Glob(root.FS(), pattern); err != nil {
				return err
			}
		}
		for _, path := range paths {
			if err := root.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return errors.Join(
		root.WriteFile("etc/machine-id", nil, 0o644),
		root.WriteFile("etc/resolv.conf", nil, 0o644))
}

// shellQuote makes one word of s for /bin/sh.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
