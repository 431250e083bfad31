require "json"
require "net/http"

# Publishes an event, or raises.
def publish(channel, event, data)
  url = URI("#{ENV.fetch("EVSTREAM_URL")}/#{channel}?#{URI.encode_www_form(event: event)}")
  answer = Net::HTTP.post(url, JSON.generate(data),
    "Authorization" => "Bearer #{ENV.fetch("EVSTREAM_TOKEN")}", "Content-Type" => "application/json")
  raise "not published: #{answer.body}" unless answer.is_a?(Net::HTTPOK)
end

publish("match.7", "score", {home: 2})
