// Sends JSON records to a Forebay source. Usage: go run main.go URL < records.ndjson
package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"
)

var client = http.Client{Timeout: time.Minute}

// send posts a batch and returns when every record is on the server's disk.
func send(url string, batch []byte) error {
	for wait := 200 * time.Millisecond; wait < time.Minute; wait *= 2 {
		pause := wait
		response, err := client.Post(url, "application/x-ndjson", bytes.NewReader(batch))
		if err == nil { // otherwise no response: a repeat has the same ids
			text, _ := io.ReadAll(response.Body)
			response.Body.Close()
			code := response.StatusCode
			if code < 300 {
				return nil
			} else if code < 500 && code != 408 && code != 429 {
				return fmt.Errorf("%d: %s", code, text)
			}
			after, _ := strconv.Atoi(response.Header.Get("Retry-After"))
			pause = max(pause, time.Duration(after)*time.Second)
		}
		time.Sleep(pause)
	}
	return fmt.Errorf("no success after 9 attempts")
}

func main() {
	var batch bytes.Buffer
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for n, more := 1, true; more; n++ {
		if more = lines.Scan(); more { // {"a":1} becomes {"id":"…","a":1}
			fmt.Fprintf(&batch, "{\"id\":%q,%s\n", rand.Text(), bytes.TrimSpace(lines.Bytes())[1:])
		}
		if batch.Len() > 0 && (n%500 == 0 || !more) {
			if err := send(os.Args[1], batch.Bytes()); err != nil {
				log.Fatal(err)
			}
			batch.Reset()
		}
	}
}
