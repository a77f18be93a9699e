import requests
import json

def stream_notifications(token):
    url = 'http://localhost:8000/api/notifications/stream/'
    headers = {'Authorization': f'Bearer {token}'}
    
    response = requests.get(url, headers=headers, stream=True)
    
    buffer = ''
    for chunk in response.iter_content(chunk_size=1024, decode_unicode=True):
        if chunk:
            buffer += chunk
            lines = buffer.split('\n')
            buffer = lines[-1]  # Keep incomplete line in buffer
            
            event_type = 'message'
            data = ''
            
            for line in lines[:-1]:
                if line.startswith('event:'):
                    event_type = line[6:].strip()
                elif line.startswith('data:'):
                    data += line[5:].strip()
                elif line == '':
                    if data:
                        notification = json.loads(data)
                        handle_notification(notification)
                        data = ''
