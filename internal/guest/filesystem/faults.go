package filesystem

import (
	"errors"
	"syscall"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Reasons of faults on which callers act.
const (
	ReasonNotFound    = "file_not_found"
	ReasonIsDirectory = "is_directory"
	ReasonDiskFull    = "guest_disk_full"
	ReasonUnknownUser = "unknown_user"
)

// reasonNotAFile is the reason for entries without content of their own.
const reasonNotAFile = "not_a_file"

func errMissing(path string, cause error) error {
	return fault.Wrap(cause, fault.NotFound, ReasonNotFound, "path '%s' does not exist", path)
}

func errIsDirectory(path string) error {
	return fault.New(fault.Invalid, ReasonIsDirectory, "path '%s' is a directory", path)
}

func errNotDirectory(path string, cause error) error {
	return fault.Wrap(cause, fault.Invalid, "not_a_directory", "path '%s' is not a directory", path)
}

func errSpecial(path string) error {
	return fault.New(fault.Invalid, reasonNotAFile, "path '%s' is not a regular file", path)
}

// errUnreadable returns the fault of a kernel file that opens but cannot be read.
func errUnreadable(path string, cause error) error {
	var errno syscall.Errno
	if !errors.As(cause, &errno) {
		return classify(path, cause)
	}
	return fault.Wrap(cause, fault.Invalid, reasonNotAFile,
		"path '%s' is not a regular file: the kernel makes it up and refuses to read it (%s)", path, errno.Error())
}

// classify returns an error of the kernel about path as a fault. A fault stays as
// it is; classify(nil) is nil.
func classify(path string, err error) error {
	var known *fault.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return err
	case errors.Is(err, syscall.ENOENT):
		return errMissing(path, err)
	case errors.Is(err, syscall.ENOTDIR):
		return errNotDirectory(path, err)
	case errors.Is(err, syscall.EISDIR):
		return errIsDirectory(path)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.Wrap(err, fault.TooLarge, ReasonDiskFull, "the sandbox's disk is full")
	case errors.Is(err, syscall.EEXIST), errors.Is(err, syscall.ENOTEMPTY):
		return fault.Wrap(err, fault.Exists, "path_exists", "path '%s' exists already", path)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EROFS):
		return fault.Wrap(err, fault.Forbidden, "path_forbidden", "path '%s' cannot be changed or read", path)
	case errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.EINVAL),
		errors.Is(err, syscall.EFBIG):
		return fault.Wrap(err, fault.Invalid, "invalid_path", "path '%s' cannot be used", path)
	case errors.Is(err, syscall.EBUSY), errors.Is(err, syscall.ETXTBSY):
		return fault.Wrap(err, fault.WrongState, "path_busy", "path '%s' is in use", path)
	default:
		return fault.Wrap(err, fault.Internal, "internal", "the file operation on '%s' failed", path)
	}
}
