// Command clients reads the stream with a Go client, which the first argument
// names.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"

	r3labs "github.com/r3labs/sse/v2"
	tmaxmax "github.com/tmaxmax/go-sse"
)

func main() {
	library, url, token := os.Args[1], os.Args[2], os.Args[3]
	switch library {
	case "r3labs":
		log.Fatal(withR3labs(url, token))
	case "tmaxmax":
		log.Fatal(withTmaxmax(url, token))
	}
}

// withR3labs resumes by itself, with the header.
func withR3labs(url, token string) error {
	client := r3labs.NewClient(url, r3labs.ClientMaxBufferSize(1<<20))
	client.Headers["Authorization"] = "Bearer " + token
	return client.SubscribeRaw(func(e *r3labs.Event) { show(string(e.Event), e.Data) })
}

// withTmaxmax resumes by itself, with the header; its line limit is 64 KB
// unless Buffer says otherwise.
func withTmaxmax(url, token string) error {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	connection := tmaxmax.NewConnection(request)
	connection.Buffer(nil, 1<<20)
	connection.SubscribeToAll(func(e tmaxmax.Event) { show(e.Type, []byte(e.Data)) })
	return connection.Connect()
}

func show(event string, data []byte) {
	switch event {
	case "connected":
		fmt.Println("connected")
	case "notification":
		var n struct{ ID int64 }
		if err := json.Unmarshal(data, &n); err != nil {
			log.Fatal(err)
		}
		fmt.Println("notification", n.ID)
	}
}
