// Get your JWT token (from login)
const token = localStorage.getItem('auth_token');

// Connect to SSE stream
const eventSource = new EventSource(
    `/api/notifications/stream/?token=${token}`
);

// Handle notification events
eventSource.addEventListener('notification', (event) => {
    const notification = JSON.parse(event.data);
    console.log('New notification:', notification);
    
    // Display notification to user
    showNotificationToast(notification);
    
    // Update notification count
    updateNotificationCount();
});

// Handle connection established
eventSource.addEventListener('connected', (event) => {
    const data = JSON.parse(event.data);
    console.log('Connected:', data.message);
});

// Handle keep-alive pings
eventSource.addEventListener('ping', (event) => {
    // Connection is alive
    console.log('Ping received');
});

// Handle errors
eventSource.onerror = (error) => {
    console.error('SSE connection error:', error);
    // Reconnect after 5 seconds
    setTimeout(() => {
        eventSource.close();
        // Reconnect logic here
    }, 5000);
};

// Close connection when done
// eventSource.close();
