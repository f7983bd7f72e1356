package image

import (
	"errors"
	"io/fs"
	"os"
	"path"
)

// File is a file of a recipe. It belongs to root.
type File struct {
	// Path is absolute and clean. Missing directories above it get the mode 0755.
	Path string `json:"path"`
	// Mode has the permission bits only.
	Mode    fs.FileMode `json:"mode"`
	Content string      `json:"content"`
}

func (f File) valid() bool {
	return path.IsAbs(f.Path) && path.Clean(f.Path) == f.Path && f.Path != "/" && f.Mode&^fs.ModePerm == 0
}

// writeFiles writes files into the tree dir. A link in the tree cannot lead it outside.
func writeFiles(dir string, files []File) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range files {
		if err := writeFile(root, f); err != nil {
			return err
		}
	}
	return nil
}

// writeFile sets modes explicitly, because they must not depend on the caller's umask.
func writeFile(root *os.Root, f File) error {
	name := f.Path[1:]
	for i := range name {
		if name[i] != '/' {
			continue
		}
		err := root.Mkdir(name[:i], 0o755)
		if err == nil {
			err = root.Chmod(name[:i], 0o755)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := root.WriteFile(name, []byte(f.Content), f.Mode); err != nil {
		return err
	}
	return root.Chmod(name, f.Mode)
}
