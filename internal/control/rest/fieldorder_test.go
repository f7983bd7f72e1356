package rest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/api"
)

// TestFieldsComeInTheOrderOfTheContract compares the fields of answers, in the
// order of their bytes, with the properties of api/openapi.yaml.
func TestFieldsComeInTheOrderOfTheContract(t *testing.T) {
	w := newWorld(t)
	sb := w.want(w.call("POST", "/v1/sandboxes", "{}"), http.StatusCreated).body
	hosts := decode[[]json.RawMessage](w, w.want(w.call("GET", "/v1/hosts", ""), http.StatusOK))
	failure := w.want(w.call("GET", "/v1/sandboxes/nosuchsandbox", ""), http.StatusNotFound).body
	process := w.want(w.call("POST", "/v1/sandboxes/"+string(bytes.Trim(member(t, sb, "id"), `"`))+"/processes", `{"cmd":"x"}`), http.StatusCreated).body
	for schema, object := range map[string][]byte{
		"Process": process, "Sandbox": sb, "Clocks": member(t, sb, "clocks"), "Host": hosts[1], "HostLimits": member(t, hosts[1], "limits"),
		"ErrorBody": member(t, failure, "error"),
	} {
		want := documentedOrder(t, schema)
		got := keysInOrder(t, object)
		// Optional fields may be absent; the others have to come in order.
		want = slices.DeleteFunc(want, func(name string) bool { return !slices.Contains(got, name) })
		if !slices.Equal(got, want) {
			t.Errorf("fields of %s: got %q, want the order of the contract %q", schema, got, want)
		}
		if len(got) < 2 {
			t.Errorf("%s: only %d fields were compared", schema, len(got))
		}
	}
}

// documentedOrder returns the properties of a schema as the text of the document
// lists them. It reads the text, because a parsed document keeps no order.
func documentedOrder(t *testing.T, schema string) (names []string) {
	t.Helper()
	_, text, found := strings.Cut(string(api.OpenAPI), "\n    "+schema+":\n")
	if !found {
		t.Fatalf("api/openapi.yaml has no schema %s", schema)
	}
	if next := regexp.MustCompile(`\n {0,4}\w`).FindStringIndex(text); next != nil {
		text = text[:next[0]]
	}
	for _, match := range regexp.MustCompile(`(?m)^ {8}(\w+):`).FindAllStringSubmatch(text, -1) {
		names = append(names, match[1])
	}
	if got, want := len(names), len(document().Components.Schemas[schema].Value.Properties); got != want {
		t.Fatalf("the text of schema %s has %d properties %q, the parsed document %d", schema, got, names, want)
	}
	return names
}

// keysInOrder returns the keys of a JSON object in the order of its text.
func keysInOrder(t *testing.T, object []byte) (keys []string) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(object))
	if _, err := dec.Token(); err != nil { // the opening brace
		t.Fatal(err)
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key.(string))
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}

func member(t *testing.T, object []byte, name string) []byte {
	t.Helper()
	var all map[string]json.RawMessage
	if err := json.Unmarshal(object, &all); err != nil {
		t.Fatal(err)
	}
	return all[name]
}
