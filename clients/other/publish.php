<?php

// Publishes an event, or throws.
function publish(string $channel, string $event, mixed $data): void
{
    $url = getenv('EVSTREAM_URL') . "/$channel?" . http_build_query(['event' => $event]);
    $answer = @file_get_contents($url, false, stream_context_create(['http' => [
        'method' => 'POST',
        'header' => ['Authorization: Bearer ' . getenv('EVSTREAM_TOKEN'), 'Content-Type: application/json'],
        'content' => json_encode($data, JSON_THROW_ON_ERROR),
        'timeout' => 10,
        'ignore_errors' => true, // the answer says why
    ]]));
    if ($answer === false || !str_contains($http_response_header[0], ' 200 ')) {
        throw new RuntimeException('not published: ' . ($answer ?: 'no answer'));
    }
}

publish('match.7', 'score', ['home' => 2]);
