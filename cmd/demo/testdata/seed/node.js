async function connectToNotifications(token) {
    const response = await fetch('/api/notifications/stream/', {
        method: 'GET',
        headers: {
            'Authorization': `Bearer ${token}`,
            'Accept': 'text/event-stream'
        }
    });

    const reader = response.body.getReader();
    const decoder = new TextDecoder();

    while (true) {
        const { done, value } = await reader.read();
        if (done) break;

        const chunk = decoder.decode(value);
        const lines = chunk.split('\n');

        let eventType = 'message';
        let data = '';

        for (const line of lines) {
            if (line.startsWith('event:')) {
                eventType = line.substring(6).trim();
            } else if (line.startsWith('data:')) {
                data += line.substring(5).trim();
            } else if (line === '') {
                // Process complete event
                if (data) {
                    const notification = JSON.parse(data);
                    handleNotification(notification);
                    data = '';
                }
            }
        }
    }
}
