// node analyze.js ADDRESS KEY CALLS: has perspective-api-client make calls, a JSON array of the arguments of `analyze`,
// and prints a JSON array of what it answers. Its address is changed, and nothing else.
'use strict';
const axios = require('axios');
const Perspective = require('perspective-api-client');

const [address, apiKey, calls] = process.argv.slice(2);
axios.interceptors.request.use(config => {
  config.url = config.url.replace('https://commentanalyzer.googleapis.com', address);
  return config;
});

const client = new Perspective({apiKey});
const answers = JSON.parse(calls).map(([text, options]) =>
  client.analyze(text, options).catch(({name, message, response}) => ({
    name,
    message,
    status: response && response.status,
    details: response && response.data.error.details,
  }))
);
Promise.all(answers).then(all => console.log(JSON.stringify(all)));
