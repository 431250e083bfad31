package runs

import (
	"github.com/evstream/caddy-evstream/broker"
)

// NoticeOf is the notice that says that there is a run.
func NoticeOf(r *Run) (*broker.Notice, error) {
	data, _, err := r.text()
	return &broker.Notice{About: FactPrefix + r.Channel, Fact: true, Data: data, ID: r.version}, err
}
