package main

import (
	"strings"
	"testing"
)

func TestPropertiesAreNumberedInTheOrderOfTheDocument(t *testing.T) {
	const document = `components:
    schemas:
        Box:
            properties:
                size: {type: integer}
                id:
                    $ref: '#/components/schemas/ID'
                lid:
                    type: object
                    properties:
                        properties: {type: string}
                        color: {type: string, x-order: 9}
        ID: {type: string}
`
	var out strings.Builder
	if err := run(strings.NewReader(document), &out); err != nil {
		t.Fatal(err)
	}
	const want = `components:
    schemas:
        Box:
            properties:
                size: {type: integer, x-order: 1}
                id:
                    $ref: '#/components/schemas/ID'
                    x-order: 2
                lid:
                    type: object
                    properties:
                        properties: {type: string, x-order: 1}
                        color: {type: string, x-order: 9}
                    x-order: 3
        ID: {type: string}
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestADocumentWithoutSchemasIsRefused(t *testing.T) {
	for _, document := range []string{"", "openapi: 3.1.0", "components: {}", "a: [", "- b"} {
		if err := run(strings.NewReader(document), new(strings.Builder)); err == nil {
			t.Errorf("document %q: no error", document)
		}
	}
}
