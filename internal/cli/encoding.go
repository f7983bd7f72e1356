package cli

import (
	"encoding/base64"
	"unicode/utf8"
)

// encodeOutput encodes output as the API does: as text if all of it is UTF-8, else
// in base64.
func encodeOutput(stdout, stderr []byte) (out, err, encoding string) {
	if utf8.Valid(stdout) && utf8.Valid(stderr) {
		return string(stdout), string(stderr), "utf-8"
	}
	return base64.StdEncoding.EncodeToString(stdout), base64.StdEncoding.EncodeToString(stderr), "base64"
}
