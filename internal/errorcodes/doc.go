// Package errorcodes owns the table of every error code of the product: its
// HTTP statuses, its cause and its remedy.
//
// The REST server serves the table and docs/errors.md is generated from it. A
// test walks the source and fails for a code that the table does not have, so
// that no answer carries a code that nobody explains. The package classifies
// nothing: the kind of an error is decided where the error is made.
package errorcodes

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Entry explains one code.
type Entry struct {
	// Code is the error.code of an answer.
	Code string
	// Statuses are the HTTP statuses that the code comes with, ascending. None
	// means that no answer carries it: it ends a command of the operator.
	Statuses []int
	// Cause and Remedy are sentences in Markdown.
	Cause, Remedy string
}

// section is a group of entries under one heading.
type section struct {
	title, intro string
	entries      []Entry
}

func sections() []section {
	return []section{
		{"Requests", "The request is wrong, and nothing was done.", requests},
		{"Sandboxes and snapshots", "The state of the installation does not allow the operation.", states},
		{"Templates and their builds", "The state of a template or of a build does not allow the operation.", templates},
		{"Inside a sandbox", "Commands and files.", guests},
		{"Hosts", "A host failed, or could not be asked. Its log has the details, under the request id or the sandbox id.", hosts},
		{"The server", "", servers},
		{"Starting and operating", "Codes with which `wrenn up`, `wrenn server`, `wrenn agent` and other commands end, or which an agent writes to its log. Answers seldom carry them.", operators},
	}
}

// All returns every entry, by code.
func All() []Entry {
	var out []Entry
	for _, s := range sections() {
		out = append(out, s.entries...)
	}
	slices.SortFunc(out, func(a, b Entry) int { return cmp.Compare(a.Code, b.Code) })
	return out
}

// Markdown returns the table for people.
func Markdown() string {
	var b strings.Builder
	b.WriteString(`# Error codes

This page is generated from package errorcodes; the server has it at ` + "`/docs/errors.md`, and as JSON at `GET /v1/errors`" + `.

Every failure of the REST API is ` + "`{\"error\": {\"code\", \"message\"}}`" + `. The code is stable and meant for programs. A
429 or 503 carries ` + "`Retry-After`" + `. A code that came over from a host keeps its name: where the table has several
statuses, 502 is the answer when a host gave it to the server for a reason that is not the caller's.
`)
	for _, s := range sections() {
		fmt.Fprintf(&b, "\n## %s\n\n", s.title)
		if s.intro != "" {
			fmt.Fprintf(&b, "%s\n\n", s.intro)
		}
		b.WriteString("| code | status | cause | remedy |\n|---|---|---|---|\n")
		for _, e := range sorted(s.entries) {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", e.Code, statuses(e), cell(e.Cause), cell(e.Remedy))
		}
	}
	return b.String()
}

func sorted(entries []Entry) []Entry {
	return slices.SortedFunc(slices.Values(entries), func(a, b Entry) int { return cmp.Compare(a.Code, b.Code) })
}

func statuses(e Entry) string {
	if len(e.Statuses) == 0 {
		return "-"
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(e.Statuses), " ", ", "), "[]")
}

// cell keeps a sentence within a cell of a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// s is short for a list of statuses.
func s(statuses ...int) []int { return statuses }
