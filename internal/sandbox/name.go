package sandbox

import (
	"regexp"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// MaxNameLen is the most characters of a sandbox's name. A name fits into a
// DNS label (RFC 1035, section 2.3.4).
const MaxNameLen = 63

var name = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`)

// ValidateName checks a sandbox's name: lower-case letters, digits and,
// inside, dots, dashes and underscores; at most MaxNameLen characters. The
// empty name, which is none, passes. A name with the form of a generated ID is
// refused, so that a program that takes either never confuses the two. The
// error is of kind Invalid.
func ValidateName(s string) error {
	switch {
	case s == "":
		return nil
	case !name.MatchString(s):
		return fault.New(fault.Invalid, "invalid_name",
			"name must be of lower-case letters, digits, '.', '_' and '-', begin and end with a letter or digit, and have at most %d characters", MaxNameLen)
	case len(s) == idLength && generatedID.MatchString(s):
		return fault.New(fault.Invalid, "invalid_name",
			"name has the form of a sandbox id (%d letters and digits); choose another", idLength)
	}
	return nil
}

// generatedID matches the ids that NewID returns.
var generatedID = regexp.MustCompile(`^[a-z2-7]+$`)
