// Command propertyorder reads an OpenAPI document from standard input and writes
// it to standard output with an x-order on each property of its schemas, so that
// oapi-codegen declares the fields of a type in the order of the document.
// Without it, the generator sorts fields by name, and encoding/json writes the
// fields of an answer in that order.
//
// "make generate" calls it.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"go.yaml.in/yaml/v3"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "propertyorder: %v\n", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	data, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return err
	}
	if document.Kind != yaml.DocumentNode {
		return errors.New("the input is empty")
	}
	schemas := value(value(document.Content[0], "components"), "schemas")
	if schemas == nil {
		return errors.New("the document has no components.schemas")
	}
	number(schemas)
	var text bytes.Buffer
	if err := yaml.NewEncoder(&text).Encode(&document); err != nil {
		return err
	}
	_, err = out.Write(text.Bytes())
	return err
}

// number sets the x-order of every property below n, at any depth.
func number(n *yaml.Node) {
	if properties := value(n, "properties"); properties != nil && properties.Kind == yaml.MappingNode {
		for i := 1; i < len(properties.Content); i += 2 {
			setOrder(properties.Content[i], i/2+1)
		}
	}
	for _, child := range n.Content {
		number(child)
	}
}

// setOrder adds an x-order to the schema of a property, unless it has one.
func setOrder(schema *yaml.Node, order int) {
	if schema.Kind != yaml.MappingNode || value(schema, "x-order") != nil {
		return
	}
	schema.Content = append(schema.Content,
		&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "x-order"},
		&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(order)})
}

// value returns the value of key in a mapping, or nil if there is none.
func value(mapping *yaml.Node, key string) *yaml.Node {
	if mapping == nil || mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}
