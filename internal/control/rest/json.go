package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

const (
	// maxJSONBytes bounds a JSON request body.
	maxJSONBytes = 1 << 20
	// jsonReadTimeout is how long a JSON body may take to arrive.
	jsonReadTimeout = 30 * time.Second
)

// writeJSON writes v with status. It ignores errors, because they mean that the
// client has hung up.
func writeJSON(w http.ResponseWriter, status int, v any) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
	// The length ends the answer, also if the request's body is not read.
	w.Header().Set("Content-Length", strconv.Itoa(text.Len()))
	writeHeader(w, status)
	_, _ = w.Write(text.Bytes())
}

// writeHeader begins an answer of JSON.
func writeHeader(w http.ResponseWriter, status int) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
}

// fields maps each permitted field of an object to the variable for its value: a
// *string, *int, *bool, *[]string, *[]int or *map[string]string. A **string, **int or
// **bool stays nil if the field is absent. A func(string, json.RawMessage) error decodes the
// value itself.
type fields map[string]any

// readJSON reads the request's body, one JSON object, into f. Fields that are
// absent keep the values they have. A missing body is refused.
func readJSON(w http.ResponseWriter, r *http.Request, f fields) error {
	return readBody(w, r, f, func() error {
		return fault.New(fault.Invalid, "missing_body", "a JSON object is required as the body; the smallest is {}")
	})
}

// readOptionalJSON is readJSON for operations without a required field, where a
// missing body is {}.
func readOptionalJSON(w http.ResponseWriter, r *http.Request, f fields) error {
	return readBody(w, r, f, func() error { return nil })
}

// readBody reads the body into f, or returns the error of missing if there is
// none.
func readBody(w http.ResponseWriter, r *http.Request, f fields, missing func() error) error {
	if err := checkMediaType(r.Header, "application/json"); err != nil {
		return err
	}
	rc := http.NewResponseController(w)
	// Writers in tests that are not connections have no deadlines.
	_ = rc.SetReadDeadline(time.Now().Add(jsonReadTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxJSONBytes))
	_ = rc.SetReadDeadline(time.Time{})
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return fault.Wrap(err, fault.TooLarge, "body_too_large", "the body may have at most %d bytes", maxJSONBytes)
	}
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "body_incomplete", "the body did not arrive whole")
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return missing()
	}
	return decodeObject(body, f)
}

// checkMediaType checks that the Content-Type is want or missing.
func checkMediaType(h http.Header, want string) error {
	if err := checkEncoding(h); err != nil {
		return err
	}
	given := h.Values("Content-Type")
	if len(given) > 1 {
		return fault.New(fault.Invalid, "invalid_content_type", "Content-Type is given twice")
	}
	if len(given) == 0 || given[0] == "" {
		return nil
	}
	typ, params, err := mime.ParseMediaType(given[0])
	charset := params["charset"]
	if err != nil || typ != want || (charset != "" && !strings.EqualFold(charset, "utf-8")) {
		return withStatus(http.StatusUnsupportedMediaType,
			fault.Wrap(err, fault.Invalid, "unsupported_media_type",
				"the Content-Type is %s and must be %s: send the header Content-Type: %[2]s", quoted(given[0]), want))
	}
	return nil
}

// quoted returns a header's text, short and without control characters.
func quoted(header string) string {
	const most = 64
	if len(header) > most {
		header = header[:most]
	}
	return strconv.Quote(header)
}

func checkEncoding(h http.Header) error {
	if e := h.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return withStatus(http.StatusUnsupportedMediaType,
			fault.New(fault.Invalid, "unsupported_content_encoding", "the body must not be compressed: send it without Content-Encoding"))
	}
	return nil
}

// decodeObject decodes one JSON object strictly: nothing unknown, nothing
// twice, nothing after it, no null, names as they are written. Each error is
// an Invalid fault that names the field. encoding/json alone lets all of these
// pass.
func decodeObject(body []byte, f fields) error {
	if !utf8.Valid(body) {
		return fault.New(fault.Invalid, "invalid_json", "the body is not UTF-8")
	}
	if half := loneSurrogate(body); half != "" {
		return fault.New(fault.Invalid, "invalid_json",
			"the body holds %s, half of a surrogate pair: a character beyond U+FFFF needs both halves", half)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	err := walkObject(dec, "the body", "", func(name string, raw json.RawMessage) error {
		dst, known := f[name]
		if !known {
			return fault.New(fault.Invalid, "unknown_field", "unknown field %q", name)
		}
		return decodeField(name, raw, dst)
	})
	if err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fault.New(fault.Invalid, "invalid_json", "the body must be one JSON object with nothing after it")
	}
	return nil
}

// walkObject reads one object from dec and calls on for each of its fields. The
// parameter object names it in errors, and prefix precedes the names of its fields.
func walkObject(dec *json.Decoder, object, prefix string, on func(name string, raw json.RawMessage) error) error {
	tok, err := dec.Token()
	if err != nil {
		return malformed(err)
	}
	if tok != json.Delim('{') {
		return fault.New(fault.Invalid, "invalid_json", "%s must be a JSON object", object)
	}
	seen := make(map[string]bool)
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return malformed(err)
		}
		name, _ := tok.(string) // the decoder lets nothing else stand for a name
		if seen[name] {
			return fault.New(fault.Invalid, "duplicate_field", "the field %q is given twice", prefix+name)
		}
		seen[name] = true
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return malformed(err)
		}
		if err := on(name, raw); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return malformed(err)
	}
	return nil
}

func malformed(err error) error {
	return fault.Wrap(err, fault.Invalid, "invalid_json", "the body is not valid JSON")
}

// decodeField decodes raw into dst.
func decodeField(name string, raw json.RawMessage, dst any) error {
	switch dst := dst.(type) {
	case *string:
		return decodeString(name, raw, dst)
	case *int:
		return decodeInt(name, raw, dst)
	case *bool:
		return decodeBool(name, raw, dst)
	case **string:
		*dst = new(string)
		return decodeString(name, raw, *dst)
	case **int:
		*dst = new(int)
		return decodeInt(name, raw, *dst)
	case **bool:
		*dst = new(bool)
		return decodeBool(name, raw, *dst)
	case *[]string:
		return decodeArray(name, raw, "an array of strings", dst, decodeString)
	case *[]int:
		return decodeArray(name, raw, "an array of integers", dst, decodeInt)
	case *map[string]string:
		return decodeMap(name, raw, dst)
	case func(string, json.RawMessage) error:
		return dst(name, raw)
	default:
		return fault.New(fault.Internal, "internal", "the field %q has no decoder", name)
	}
}

func decodeString(name string, raw json.RawMessage, dst *string) error {
	if raw[0] != '"' {
		return wrongType(name, "a string")
	}
	if err := json.Unmarshal(raw, dst); err != nil {
		return malformed(err)
	}
	return nil
}

func decodeInt(name string, raw json.RawMessage, dst *int) error {
	n, err := strconv.Atoi(string(raw))
	if errors.Is(err, strconv.ErrSyntax) {
		n, err = wholeNumber(string(raw))
	}
	if errors.Is(err, strconv.ErrRange) {
		return fault.New(fault.Invalid, "invalid_type", "%s is out of range", name)
	}
	if err != nil {
		return wrongType(name, "an integer")
	}
	*dst = n
	return nil
}

// wholeNumber returns an integer that is written in JSON as a fraction or with
// an exponent, such as 1.0 or 3e2.
func wholeNumber(text string) (int, error) {
	const exact = 1 << 53
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		return 0, err
	case f != math.Trunc(f):
		return 0, strconv.ErrSyntax
	case math.Abs(f) > exact:
		return 0, strconv.ErrRange
	}
	return int(f), nil
}

func decodeBool(name string, raw json.RawMessage, dst *bool) error {
	switch string(raw) {
	case "true", "false":
		*dst = string(raw) == "true"
		return nil
	default:
		return wrongType(name, "true or false")
	}
}

// decodeArray decodes an array with decode for each element; want names its type.
func decodeArray[T any](name string, raw json.RawMessage, want string, dst *[]T, decode func(string, json.RawMessage, *T) error) error {
	var elems []json.RawMessage
	if raw[0] != '[' {
		return wrongType(name, want)
	}
	if err := json.Unmarshal(raw, &elems); err != nil {
		return malformed(err)
	}
	out := make([]T, len(elems))
	for i, e := range elems {
		if err := decode(name+"["+strconv.Itoa(i)+"]", e, &out[i]); err != nil {
			return err
		}
	}
	*dst = out
	return nil
}

func decodeMap(name string, raw json.RawMessage, dst *map[string]string) error {
	if raw[0] != '{' {
		return wrongType(name, "an object of strings")
	}
	out := make(map[string]string)
	dec := json.NewDecoder(bytes.NewReader(raw))
	err := walkObject(dec, name, name+".", func(key string, raw json.RawMessage) error {
		var v string
		if err := decodeString(name+"."+key, raw, &v); err != nil {
			return err
		}
		out[key] = v
		return nil
	})
	*dst = out
	return err
}

func wrongType(name, want string) error {
	return fault.New(fault.Invalid, "invalid_type", "%s must be %s", name, want)
}
